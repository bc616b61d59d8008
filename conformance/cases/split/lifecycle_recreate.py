"""A split that is deleted and created again counts with what it says now."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    for _ in range(2):
        await mesh.apply("first")
        await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=20)
        await mesh.delete("TrafficSplit", "web")
        await mesh.apply("second")
        await becomes_served(mesh, "client", "http://web:8080/", "beta", count=20)
        await mesh.settle()
        await is_served(mesh, "client", "http://web:8080/", "beta", count=50)
        await mesh.delete("TrafficSplit", "web")


CASE = Case(
    name="lifecycle-recreate",
    feature="split-lifecycle",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "A TrafficSplit may be deleted when it is no longer needed.",
        ),
    ),
    rules=("S15",),
)
