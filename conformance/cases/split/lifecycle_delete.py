"""A deleted split leaves nothing behind: the root routes to what it selects."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served

EVERYBODY = ("alpha", "beta", "gamma")


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=30)
    await mesh.delete("TrafficSplit", "web")
    await becomes_served(mesh, "client", "http://web:8080/", *EVERYBODY, count=60)
    await mesh.settle()
    await becomes_served(mesh, "client", "http://web:8080/", *EVERYBODY, count=60)


CASE = Case(
    name="lifecycle-delete",
    feature="split-lifecycle",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "When the roll-out is over the TrafficSplit is deleted, and the root Service is what it was.",
        ),
    ),
    rules=("S15",),
)
