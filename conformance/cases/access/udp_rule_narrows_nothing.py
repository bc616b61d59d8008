"""A UDPRoute beside an HTTPRouteGroup concerns UDP only: the HTTP routes stay open on their port."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_tcp_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /items",), refused=("GET /other",))
    await is_tcp_denied(mesh, "client", "alpha", 8090)


CASE = Case(
    name="udp-rule-narrows-nothing",
    feature="access-combination",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S21", "R1"),
    access="closed",
)
