"""A split follows the change of a group that it names."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply(value="yes")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers={"x-beta": "yes"})
    await mesh.apply(value="please")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers={"x-beta": "please"})
    await becomes_served(
        mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60, headers={"x-beta": "yes"}
    )


CASE = Case(
    name="matches-change-of-group",
    feature="split-matches",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "The filters of a split are those of the HTTPRouteGroups it refers to.",
        ),
    ),
    rules=("S15",),
    needs=("specs-http-header",),
)
