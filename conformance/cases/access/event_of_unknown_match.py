"""What is wrong with a TrafficTarget is said in an Event on it, too."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def told() -> None:
        events = await mesh.events("TrafficTarget", "to-alpha")
        fitting = [event for event in events if event.reason == "MatchNotFound" and "typo" in event.message]
        expect(fitting and fitting[0].type == "Warning", f"events on the TrafficTarget: {events}")

    await mesh.converge(told, "a Warning event that names the unknown match")


CASE = Case(
    name="event-of-unknown-match",
    feature="access-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S22", "S31"),
    access="closed",
)
