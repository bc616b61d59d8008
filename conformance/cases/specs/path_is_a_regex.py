"""A pathRegex is a regular expression: classes, repetition, groups and alternatives."""

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
        allowed=("GET /red/1", "GET /blue/42/size", "GET /v2/a", "GET /v3/a"),
        refused=("GET /green/1", "GET /red/x", "GET /red/", "GET /v4/a"),
    )


CASE = Case(
    name="path-is-a-regex",
    feature="specs-http-path",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "A regex is used to match against the URI.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
