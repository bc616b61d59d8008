"""A UDPRoute with an empty list of ports, or without one, stands for all ports."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_udp_denied, udp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await udp_becomes_served(mesh, "client", "alpha", 8070, "alpha")
    await udp_becomes_served(mesh, "client", "beta", 8070, "beta")
    await is_udp_denied(mesh, "client", "gamma", 8070, "gamma")
    await is_udp_denied(mesh, "other", "alpha", 8070, "alpha")


CASE = Case(
    name="udp-route-without-ports",
    feature="specs-udp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "UDPRoute",
            "When ports are not specified, the route matches all ports.",
        ),
    ),
    rules=("S24",),
    access="closed",
)
