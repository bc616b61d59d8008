"""A backend without the root's port is told about in an event that names backend and port."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def told() -> None:
        events = await mesh.events("TrafficSplit", "birds")
        fitting = [event for event in events if event.type == "Warning" and "blue-birds" in event.message]
        expect(any("8080" in event.message for event in fitting), f"events on the TrafficSplit: {events}")

    await mesh.converge(told, "a Warning event about blue-birds and port 8080")


CASE = Case(
    name="status-port-mismatch",
    feature="split-status",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "An event, visible with `kubectl describe`, is recommended when ports leave a backend out.",
        ),
    ),
    rules=("S5", "S31"),
)
