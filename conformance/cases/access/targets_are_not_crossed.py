"""The sources of one TrafficTarget do not get the routes of another."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "other", "http://alpha:8080/two", "alpha")
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /one",), refused=("GET /two",))
    await is_denied(mesh, "other", "http://alpha:8080/one")


CASE = Case(
    name="targets-are-not-crossed",
    feature="access-combination",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Example implementation for L7",
            "With two TrafficTargets on one destination each source has the routes of its own target only.",
        ),
    ),
    rules=("S21",),
    access="closed",
)
