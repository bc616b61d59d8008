"""Of two groups one is missing: the other one counts."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers={"x-beta": "yes"})
    await mesh.settle()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="matches-one-group-missing",
    feature="split-matches",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R3", "S9"),
    needs=("specs-http-header",),
)
