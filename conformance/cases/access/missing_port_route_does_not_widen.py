"""A missing TCPRoute beside an HTTPRouteGroup does not open the routes on every port."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("half")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/items")
    await mesh.apply("whole")
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha")


CASE = Case(
    name="missing-port-route-does-not-widen",
    feature="access-references",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S22", "R2"),
    access="closed",
)
