"""Where a call is made to decides, not its Host header."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://alpha:8080/", "alpha", count=30, headers={"host": "web:8080"})
    await is_served(mesh, "client", "http://web:8080/", "beta", count=30, headers={"host": "alpha:8080"})


CASE = Case(
    name="names-and-host-header",
    feature="split-names",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S4",),
)
