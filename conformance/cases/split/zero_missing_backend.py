"""A backend that does not exist yet is left out and the others share all; once it exists it takes part."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 20, "beta": 20}, picks=200)
    await mesh.apply("later")
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 20, "beta": 20, "gamma": 60})


CASE = Case(
    name="zero-missing-backend",
    feature="split-zero",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "A TrafficSplit may refer to a Service before it is created.",
        ),
    ),
    rules=("S6",),
)
