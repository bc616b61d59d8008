"""New weights count for new TCP connections."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import is_tcp_served, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply(old=1, new=0)
    await tcp_becomes_served(mesh, "client", "web", 8090, "alpha", count=20)
    await mesh.apply(old=0, new=1)
    await tcp_becomes_served(mesh, "client", "web", 8090, "beta", count=20)
    await mesh.settle()
    await is_tcp_served(mesh, "client", "web", 8090, "beta", count=50)


CASE = Case(
    name="tcp-change",
    feature="split-tcp",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "Updating the weights of a TrafficSplit moves traffic accordingly.",
        ),
    ),
    rules=("S13", "S15"),
)
