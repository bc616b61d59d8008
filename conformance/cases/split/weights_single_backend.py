"""One backend alone takes everything, whatever its weight and whatever the root selects."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "beta", count=200, concurrency=4)


CASE = Case(
    name="weights-single-backend",
    feature="split-weights",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "The last step names the new version alone, with weight 1, and all traffic goes there.",
        ),
    ),
)
