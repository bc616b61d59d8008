"""HTTPRouteGroup and TCPRoute in the shape of specs v1alpha3."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_served, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh, "client", "alpha", allowed=("GET /metrics", "POST /ping"), refused=("POST /metrics", "GET /")
    )
    firefox = {"user-agent": "Firefox/128.0"}
    await is_served(mesh, "client", "http://alpha:8080/", "alpha", headers=firefox)
    await tcp_becomes_served(mesh, "client", "beta", 8090, "beta")


CASE = Case(
    name="routes-v1alpha3",
    feature="specs-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha3",
            "HTTPRouteGroup",
            "Manifests in the shape of v1alpha3 are understood.",
        ),
        SpecRef(
            "traffic-specs",
            "v1alpha3",
            "TCPRoute",
            "A TCPRoute without anything to say is any TCP traffic.",
        ),
    ),
    rules=("S1",),
    access="closed",
)
