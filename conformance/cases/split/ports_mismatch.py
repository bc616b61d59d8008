"""The invalid example: a backend without the root's port gets nothing, though a port has the same name."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://birds:8080/", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://birds:8080/", "beta", count=200, concurrency=4)


CASE = Case(
    name="ports-mismatch",
    feature="split-ports",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "A backend Service whose ports do not match the root's port is not included and gets no traffic.",
        ),
    ),
    rules=("S5",),
)
