"""A UDPRoute for all ports opens neither TCP nor HTTP."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_denied, is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("udp")
    await mesh.settle()
    await is_tcp_denied(mesh, "client", "alpha", 8090)
    await is_denied(mesh, "client", "http://alpha:8080/")
    await mesh.apply("tcp")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")


CASE = Case(
    name="udp-route-is-not-tcp",
    feature="access-tcp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "UDPRoute",
            "The resource describes UDP traffic, and no other.",
        ),
    ),
    rules=("S21", "R1"),
    access="closed",
)
