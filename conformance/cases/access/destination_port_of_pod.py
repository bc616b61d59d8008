"""`destination.port` is the pod's port, whatever port the Service has."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("service-port")
    await mesh.settle()
    await is_denied(mesh, "client", "http://front:80/")
    await mesh.apply("pod-port")
    await becomes_served(mesh, "client", "http://front:80/", "alpha")


CASE = Case(
    name="destination-port-of-pod",
    feature="access-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R1",),
    access="closed",
)
