"""Two backends of equal weight take half of the requests each."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 50, "beta": 50})


CASE = Case(
    name="weights-half",
    feature="split-weights",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Requests to the root service go to its backends in the proportion of their weights.",
        ),
    ),
    rules=("S14",),
)
