"""A TCPRoute beside an HTTPRouteGroup limits the routes to its ports."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_denied, is_tcp_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("elsewhere")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/items")
    await mesh.apply("here")
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /items",), refused=("GET /other",))
    await is_tcp_denied(mesh, "client", "alpha", 8090)


CASE = Case(
    name="tcp-and-http-rules-both-hold",
    feature="access-combination",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "With the ports of a TCPRoute the user says specifically on which port the routes of a "
            "target are allowed.",
        ),
    ),
    rules=("S21",),
    access="closed",
)
