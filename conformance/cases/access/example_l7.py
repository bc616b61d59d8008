"""The example with four services: two callers may use the API, a third may only read its metrics."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /api", "DELETE /api", "POST /api/orders"),
        refused=("GET /metrics", "GET /"),
    )
    await becomes_served(mesh, "visitor", f"http://alpha.{mesh.namespace}:8080/api", "alpha", method="PUT")
    await allows_exactly(
        mesh,
        "other",
        "alpha",
        allowed=("GET /metrics",),
        refused=("POST /metrics", "GET /api"),
    )


CASE = Case(
    name="example-l7",
    feature="access-http",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Example implementation for L7",
            "The table of the example: who may call which path with which method, and nothing else.",
        ),
    ),
    rules=("S21",),
    access="closed",
)
