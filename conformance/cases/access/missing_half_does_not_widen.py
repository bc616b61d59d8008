"""A missing HTTPRouteGroup beside a TCPRoute does not leave the port open for everything."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_denied, is_tcp_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("half")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/items")
    await is_tcp_denied(mesh, "client", "alpha", 8090)
    await mesh.apply("whole")
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /items",), refused=("GET /other",))


CASE = Case(
    name="missing-half-does-not-widen",
    feature="access-references",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S22", "R2"),
    access="closed",
)
