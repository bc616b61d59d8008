"""A/B: requests with a header go to one backend, all others are not touched by the split."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served

BETA = {"x-beta": "yes"}


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=20, headers=BETA)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "beta", count=50, headers=BETA)
    await is_served(mesh, "client", "http://alpha:8080/", "alpha", count=5, headers=BETA)
    # The root selects all three servers: without the header each of them goes on answering.
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="matches-header",
    feature="split-matches",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ab test workflow",
            "With `matches`, only requests that one of the named HTTPRouteGroups matches are split.",
        ),
    ),
    rules=("S9",),
    needs=("specs-http-header",),
)
