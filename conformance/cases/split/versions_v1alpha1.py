"""v1alpha1: weights are resource quantities; `1` and `500m` are two thirds and one third."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 1000, "beta": 500})


CASE = Case(
    name="versions-v1alpha1",
    feature="split-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha1",
            "Workflow",
            "With weights 1 and 500m about 33 % of the traffic goes to the second backend.",
        ),
    ),
    rules=("S1",),
)
