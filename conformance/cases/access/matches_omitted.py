"""A rule that names no matches opens all matches of its group, and nothing besides."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /read", "POST /write"),
        refused=("POST /read", "GET /write", "GET /"),
    )


CASE = Case(
    name="matches-omitted",
    feature="access-http",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "The `matches` of a rule are optional; without them the rule stands for any match of the group.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
