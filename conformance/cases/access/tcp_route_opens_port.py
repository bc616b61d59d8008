"""A TCPRoute opens its port to the sources of the TrafficTarget, and to nobody else."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_denied, is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha", count=5)
    await mesh.settle()
    await is_tcp_denied(mesh, "other", "alpha", 8090, count=3)
    await is_tcp_denied(mesh, "client", "beta", 8090)
    await is_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="tcp-route-opens-port",
    feature="access-tcp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Example implementation for L4",
            "A TCPRoute in a TrafficTarget allows TCP traffic to its ports.",
        ),
    ),
    rules=("S21",),
    access="closed",
)
