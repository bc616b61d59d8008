"""With the fall-back annotation, a split of all zeros sends calls to the root's own endpoints."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply(weight=1)
    await becomes_served(mesh, "client", "http://shop:8080/", "alpha", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://shop:8080/", "alpha", count=50)
    await mesh.apply(weight=0)
    await becomes_served(mesh, "client", "http://shop:8080/", "gamma", count=30)


CASE = Case(
    name="fallback-weights-zero",
    feature="split-fallback",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S8", "R5"),
)
