"""A TCPRoute with an empty list of ports, or without one, stands for all ports."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await tcp_becomes_served(mesh, "client", "beta", 8090, "beta")
    await becomes_served(mesh, "client", "http://beta:8080/", "beta")
    await mesh.settle()
    await is_tcp_denied(mesh, "other", "alpha", 8090)
    await is_tcp_denied(mesh, "client", "gamma", 8090)


CASE = Case(
    name="tcp-route-without-ports",
    feature="specs-tcp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "TCPRoute",
            "When ports are not specified, the route matches all ports.",
        ),
    ),
    rules=("S24",),
    access="closed",
)
