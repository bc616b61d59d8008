"""IdentityBindings of service accounts stand for source and destination of a TrafficTarget."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh, "client", "alpha", allowed=("GET /metrics",), refused=("POST /metrics", "GET /")
    )
    await is_denied(mesh, "other", "http://alpha:8080/metrics")
    await is_denied(mesh, "client", "http://beta:8080/metrics")


CASE = Case(
    name="binding-service-account",
    feature="access-identity-binding",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "TrafficTarget",
            "Destination and sources may be IdentityBindings.",
        ),
    ),
    rules=("R11",),
    access="closed",
)
