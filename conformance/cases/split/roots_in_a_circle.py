"""Two splits that name each other's root do no harm."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://one:8080/", "beta", count=30)
    await becomes_served(mesh, "client", "http://two:8080/", "alpha", count=30)


CASE = Case(
    name="roots-in-a-circle",
    feature="split-root-backend",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Tradeoffs",
            "Splits are not hierarchical so that there are no circular references.",
        ),
    ),
    rules=("S10",),
)
