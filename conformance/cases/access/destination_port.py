"""The port of a destination (v1alpha1 and v1alpha2) limits the TrafficTarget to it; none means all."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_tcp_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("elsewhere")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    await is_denied(mesh, "other", "http://alpha:8080/")
    await mesh.apply("here")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await becomes_served(mesh, "other", "http://alpha:8080/", "alpha")
    await is_tcp_denied(mesh, "client", "alpha", 8090)


CASE = Case(
    name="destination-port",
    feature="access-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha1",
            "TrafficTarget",
            "`port` says on which port traffic is allowed; without it, on all ports.",
        ),
        SpecRef(
            "traffic-access",
            "v1alpha2",
            "TrafficTarget",
            "`port` says on which port traffic is allowed; without it, on all ports.",
        ),
    ),
    rules=("R1",),
    access="closed",
)
