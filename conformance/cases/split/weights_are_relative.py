"""Weights are parts of their sum, not per cent: 1000 and 500 are two thirds and one third."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 1000, "beta": 500})


CASE = Case(
    name="weights-are-relative",
    feature="split-weights",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "Weights of 1000 and 500 give the second backend about 33 % of the traffic.",
        ),
    ),
)
