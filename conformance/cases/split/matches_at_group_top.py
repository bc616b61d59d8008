"""The A/B example writes the group's matches at top level: they count there as well."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(
        mesh, "client", "http://web:8080/", "beta", count=30, headers={"user-agent": "Firefox/133"}
    )
    await mesh.settle()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="matches-at-group-top",
    feature="split-matches",
    level=Level.IMPLEMENTATION,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "The A/B example's HTTPRouteGroup has `matches` beside `metadata`, without a `spec`.",
        ),
    ),
    rules=("S2",),
    needs=("specs-http-header",),
)
