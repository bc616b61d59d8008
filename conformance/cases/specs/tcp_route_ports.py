"""A TCPRoute stands for the ports it lists."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_denied, is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("others")
    await mesh.settle()
    await is_tcp_denied(mesh, "client", "alpha", 8090, count=3)
    await mesh.apply("among-others")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha", count=3)
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="tcp-route-ports",
    feature="specs-tcp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "TCPRoute",
            "The resource describes TCP traffic for a list of ports.",
        ),
    ),
    rules=("S24",),
    access="closed",
)
