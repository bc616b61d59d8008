"""A port of a TCPRoute is the pod's port, whatever port the Service has."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("service-port")
    await mesh.settle()
    await is_tcp_denied(mesh, "client", "line", 5432)
    await mesh.apply("pod-port")
    await tcp_becomes_served(mesh, "client", "line", 5432, "alpha")


CASE = Case(
    name="tcp-route-port-of-pod",
    feature="specs-tcp",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R1",),
    access="closed",
)
