"""A missing HTTPRouteGroup does not void the one beside it."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /good",), refused=("GET /",))


CASE = Case(
    name="missing-route-beside-known",
    feature="access-references",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S22", "R2"),
    access="closed",
)
