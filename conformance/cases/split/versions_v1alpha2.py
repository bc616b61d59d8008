"""v1alpha2: weights are whole numbers."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 1000, "beta": 500}, picks=200)


CASE = Case(
    name="versions-v1alpha2",
    feature="split-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha2",
            "Specification",
            "Weights are whole numbers from this version on.",
        ),
    ),
    rules=("S1",),
)
