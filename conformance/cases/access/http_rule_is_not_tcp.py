"""An HTTPRouteGroup alone opens no connection that is not HTTP."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("http")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await mesh.settle()
    await is_tcp_denied(mesh, "client", "alpha", 8090)
    await mesh.apply("tcp")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")


CASE = Case(
    name="http-rule-is-not-tcp",
    feature="access-http",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "The resource describes HTTP traffic; each resource stands for one protocol.",
        ),
    ),
    rules=("S21",),
    access="closed",
)
