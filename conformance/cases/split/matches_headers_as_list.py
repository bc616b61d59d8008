"""Header filters written as a list, as the published CRD asks, filter as well as a map does."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(
        mesh, "client", "http://web:8080/", "beta", count=30, headers={"x-beta": "yes", "x-who": "me"}
    )
    await mesh.settle()
    await becomes_served(
        mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60, headers={"x-beta": "yes"}
    )


CASE = Case(
    name="matches-headers-as-list",
    feature="split-matches",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S2", "S9"),
    needs=("specs-http-header",),
)
