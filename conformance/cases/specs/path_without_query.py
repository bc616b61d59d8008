"""The query is no part of what a pathRegex is matched against."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /items", "GET /items?page=2", "GET /items?"),
        refused=("GET /?/items", "GET /other?x=/items", "GET /search?q=1"),
    )


CASE = Case(
    name="path-without-query",
    feature="specs-http-path",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S16",),
    access="closed",
)
