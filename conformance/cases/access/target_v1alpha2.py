"""The example of access v1alpha2 with routes of specs v1alpha3: who may call which path with which method."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh, "client", "alpha", allowed=("GET /api", "DELETE /api/1"), refused=("GET /metrics", "GET /")
    )
    await allows_exactly(
        mesh, "other", "alpha", allowed=("GET /metrics",), refused=("POST /metrics", "GET /api")
    )


CASE = Case(
    name="target-v1alpha2",
    feature="access-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha2",
            "Example Implementation",
            "Manifests in the shape of v1alpha2 are understood, `destination.port` among them.",
        ),
    ),
    rules=("S1", "S21"),
    access="closed",
)
