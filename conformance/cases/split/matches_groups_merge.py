"""Several groups count as one: a request that meets any match of any group is split."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    for headers in ({"x-one": "yes"}, {"x-two": "yes"}, {"x-three": "yes"}):
        await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers=headers)
    await mesh.settle()
    await becomes_served(
        mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60, headers={"x-one": "no"}
    )


CASE = Case(
    name="matches-groups-merge",
    feature="split-matches",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Several HTTPRouteGroups in `matches` are merged into a single one.",
        ),
    ),
    rules=("S9",),
    needs=("specs-http-header",),
)
