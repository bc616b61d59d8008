"""A method in small letters is remarked upon: a condition that stays true and a Warning event."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import condition_becomes


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await condition_becomes(mesh, "HTTPRouteGroup", "routes", "Accepted", "True", "MethodCase")

    async def told() -> None:
        events = await mesh.events("HTTPRouteGroup", "routes")
        fitting = [event for event in events if event.reason == "MethodCase" and event.type == "Warning"]
        expect(fitting, f"events on the HTTPRouteGroup: {events}")

    await mesh.converge(told, "a Warning event about the method")


CASE = Case(
    name="event-of-small-letters",
    feature="specs-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R7", "S31"),
    access="closed",
)
