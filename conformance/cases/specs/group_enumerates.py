"""An HTTPRouteGroup lists routes: what no match of it holds for is not in it."""

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
        allowed=("GET /metrics", "DELETE /ping"),
        refused=("GET /", "DELETE /metrics"),
    )


CASE = Case(
    name="group-enumerates",
    feature="specs-http-combination",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "The example with the matches metrics and health: it enumerates the routes of an application.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
