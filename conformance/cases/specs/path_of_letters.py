"""A pathRegex tells upper from lower case."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh, "client", "alpha", allowed=("GET /Items",), refused=("GET /items", "GET /ITEMS")
    )


CASE = Case(
    name="path-of-letters",
    feature="specs-http-path",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "A regex is used to match against the URI, whose path has upper and lower case.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
