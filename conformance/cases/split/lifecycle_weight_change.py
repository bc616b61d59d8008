"""Changed weights count: step by step from one backend to the other."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    for old, new in ((100, 0), (70, 30), (20, 80), (0, 100)):
        await mesh.apply(old=old, new=new)
        await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": old, "beta": new}, picks=200)


CASE = Case(
    name="lifecycle-weight-change",
    feature="split-lifecycle",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "Updating the weights of a TrafficSplit moves traffic accordingly.",
        ),
    ),
)
