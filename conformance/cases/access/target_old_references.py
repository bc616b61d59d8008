"""In the old versions, too, an unknown match name allows nothing."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("unknown")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/items")
    await is_denied(mesh, "other", "http://alpha:8080/items")
    await mesh.apply("known")
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha")
    await becomes_served(mesh, "other", "http://alpha:8080/items", "alpha")


CASE = Case(
    name="target-old-references",
    feature="access-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R14", "S22"),
    access="closed",
)
