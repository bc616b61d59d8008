"""Matches at top level of a v1alpha4 HTTPRouteGroup count, as an example of the specification has them."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(
        mesh, "client", "http://alpha:8080/", "alpha", headers={"user-agent": "Firefox/128.0"}
    )
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="matches-at-top-level",
    feature="specs-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "The example writes `matches` at top level of its HTTPRouteGroup.",
        ),
    ),
    rules=("S2",),
    access="closed",
)
