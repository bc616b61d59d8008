"""Large weights do not overflow: their sum is beyond 32 bits, their ratio is 2 : 1."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(
        mesh,
        "client",
        "http://web:8080/",
        {"alpha": 2_000_000_000, "beta": 1_000_000_000, "gamma": 1_000_000_000},
    )


CASE = Case(
    name="weights-large",
    feature="split-weights",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Weights are whole numbers, without an upper bound.",
        ),
    ),
    rules=("S3", "S14"),
)
