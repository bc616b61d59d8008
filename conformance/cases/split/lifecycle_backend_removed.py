"""A backend that is taken off the list gets nothing any more, one that is added takes part."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply("two")
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 50, "beta": 50}, picks=100)
    await mesh.apply("other-two")
    await becomes_shared(mesh, "client", "http://web:8080/", {"beta": 50, "gamma": 50}, picks=200)


CASE = Case(
    name="lifecycle-backend-removed",
    feature="split-lifecycle",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "The list of backends is edited in the course of a roll-out; who is off it gets no traffic.",
        ),
    ),
)
