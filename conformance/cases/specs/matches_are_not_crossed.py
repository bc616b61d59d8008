"""The path of one match does not combine with the method of another."""

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
        allowed=("GET /metrics", "POST /orders"),
        refused=("POST /metrics", "GET /orders", "GET /", "DELETE /orders"),
    )


CASE = Case(
    name="matches-are-not-crossed",
    feature="specs-http-combination",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "A match is a path with its methods; the matches of a group are alternatives.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
