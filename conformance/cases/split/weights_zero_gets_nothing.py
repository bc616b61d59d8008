"""A backend of weight 0 is named, and gets nothing."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "alpha", count=300, concurrency=4)


CASE = Case(
    name="weights-zero-gets-nothing",
    feature="split-weights",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "While its weight is 0 a backend gets none of the root's traffic.",
        ),
    ),
)
