"""v1alpha3: a split may be limited by HTTPRouteGroups of v1alpha3."""

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
    name="versions-v1alpha3",
    feature="split-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha3",
            "Specification",
            "`matches` names HTTPRouteGroups whose header filters say which requests are split.",
        ),
    ),
    rules=("S1", "S9"),
    needs=("split-matches", "specs-http-header"),
)
