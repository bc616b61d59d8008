"""The canary example: 90 to 10."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 90, "beta": 10})


CASE = Case(
    name="weights-example",
    feature="split-weights",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "The canary example sends nine tenths of the traffic to one backend, one tenth to the other.",
        ),
    ),
    rules=("S14",),
)
