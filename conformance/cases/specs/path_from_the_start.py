"""A pathRegex matches from the start of the path: what it means further on does not count."""

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
        allowed=("GET /items", "GET /ping"),
        refused=("GET /v1/items", "GET /x/items", "GET /xitems", "GET /a/ping", "GET /"),
    )


CASE = Case(
    name="path-from-the-start",
    feature="specs-http-path",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "The regex is matched against the URI and anchored to its beginning, all alternatives of it.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
