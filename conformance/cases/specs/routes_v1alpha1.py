"""HTTPRouteGroup and TCPRoute in the shape of specs v1alpha1."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh, "client", "alpha", allowed=("GET /metrics", "POST /ping"), refused=("POST /metrics", "GET /")
    )
    await tcp_becomes_served(mesh, "client", "beta", 8090, "beta")


CASE = Case(
    name="routes-v1alpha1",
    feature="specs-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha1",
            "HTTPRouteGroup",
            "Manifests in the shape of v1alpha1 are understood, with `matches` at top level.",
        ),
        SpecRef(
            "traffic-specs",
            "v1alpha1",
            "TCPRoute",
            "A TCPRoute without anything to say is any TCP traffic.",
        ),
    ),
    rules=("S1",),
    access="closed",
)
