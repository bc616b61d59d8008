"""The pattern .* with methods * matches any request."""

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
        allowed=("GET /", "POST /a/b/c", "DELETE /?x=1", "PATCH /very/long/path.html"),
        refused=(),
    )


CASE = Case(
    name="path-everything",
    feature="specs-http-path",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "The example with one match that matches anything.",
        ),
    ),
    rules=("S16", "S17"),
    access="closed",
)
