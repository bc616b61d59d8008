"""A rule that names two matches of three opens these two."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /one", "GET /two"), refused=("GET /three",))


CASE = Case(
    name="matches-several",
    feature="access-http",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Several names in the `matches` of a rule are alternatives.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
