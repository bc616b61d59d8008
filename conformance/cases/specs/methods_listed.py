"""A match with methods holds for these, and for no others."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /", "PUT /"),
        refused=("POST /", "DELETE /", "HEAD /", "OPTIONS /", "PATCH /"),
    )


CASE = Case(
    name="methods-listed",
    feature="specs-http-method",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "Methods can be specific.",
        ),
    ),
    rules=("S17",),
    access="closed",
)
