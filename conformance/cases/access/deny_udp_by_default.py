"""No UDP datagram reaches a server until a UDPRoute allows it."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_udp_denied, udp_becomes_served


async def run(mesh: Mesh) -> None:
    await is_udp_denied(mesh, "client", "alpha", 8070, "alpha")
    await mesh.apply("open")
    await udp_becomes_served(mesh, "client", "alpha", 8070, "alpha")
    await is_udp_denied(mesh, "other", "alpha", 8070, "alpha")


CASE = Case(
    name="deny-udp-by-default",
    feature="access-udp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Specification",
            "All traffic is denied by default, UDP as well as any other.",
        ),
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Example implementation for L4",
            "A UDPRoute in a TrafficTarget allows UDP traffic to its ports.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
