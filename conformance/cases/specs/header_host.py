"""A filter on host looks at the authority of the request."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", f"http://alpha.{mesh.namespace}:8080/", "alpha")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="header-host",
    feature="specs-http-header",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S17", "R7"),
    access="closed",
)
