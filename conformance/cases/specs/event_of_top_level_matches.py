"""Matches at top level of a v1alpha4 HTTPRouteGroup are remarked upon in a Warning event."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def told() -> None:
        events = await mesh.events("HTTPRouteGroup", "routes")
        expect(any(event.reason == "TopLevelMatches" for event in events), f"events: {events}")

    await mesh.converge(told, "an event about matches at top level")


CASE = Case(
    name="event-of-top-level-matches",
    feature="specs-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S2", "S31"),
    access="closed",
)
