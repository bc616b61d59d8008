"""A pathRegex is not anchored at the end: /items opens what begins with it."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /items", "GET /items/7", "GET /items-of-today"),
        refused=("GET /item", "GET /exact/more"),
    )
    await is_served(mesh, "client", "http://alpha:8080/exact", "alpha")


CASE = Case(
    name="path-to-no-end",
    feature="specs-http-path",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "The regex is anchored to the beginning of the URI; of its end nothing is said.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
