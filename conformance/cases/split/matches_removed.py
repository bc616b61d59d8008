"""A split whose `matches` is taken away takes all requests."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=20, headers={"x-beta": "yes"})
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)
    await mesh.patch("TrafficSplit", "web", {"spec": {"matches": None}})
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=40)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "beta", count=100)


CASE = Case(
    name="matches-removed",
    feature="split-matches",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "`matches` is optional; without it the split is about all traffic of the root.",
        ),
    ),
    rules=("S9",),
    needs=("specs-http-header",),
)
