"""A UDPRoute stands for the ports it lists."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_udp_denied, udp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("others")
    await mesh.settle()
    await is_udp_denied(mesh, "client", "alpha", 8070, "alpha")
    await mesh.apply("among-others")
    await udp_becomes_served(mesh, "client", "alpha", 8070, "alpha", count=3)


CASE = Case(
    name="udp-route-ports",
    feature="specs-udp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "UDPRoute",
            "The resource describes UDP traffic for a list of ports.",
        ),
    ),
    rules=("S24",),
    access="closed",
)
