"""TCP and UDP each pass to the ports of their own route: a port in the TCPRoute opens no UDP."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_tcp_served, is_udp_denied, tcp_becomes_served, udp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("tcp-only")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")
    await mesh.settle()
    await is_udp_denied(mesh, "client", "alpha", 8070, "alpha")
    await mesh.apply("udp-too")
    await udp_becomes_served(mesh, "client", "alpha", 8070, "alpha")
    await is_tcp_served(mesh, "client", "alpha", 8090, "alpha")


CASE = Case(
    name="example-l4",
    feature="access-udp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Example implementation for L4",
            "TCP and UDP pass to the ports that both routes list; UDP to a port that only the "
            "TCPRoute lists is blocked.",
        ),
    ),
    rules=("S21", "R1"),
    access="closed",
)
