"""A backend that has one of two ports takes part on that one, and only there."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, becomes_shared, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://birds:8080/", {"alpha": 30, "beta": 70}, picks=200)
    await becomes_served(mesh, "client", "http://birds:9090/", "beta", count=30)
    await is_served(mesh, "client", "http://birds:9090/", "beta", count=100)


CASE = Case(
    name="ports-one-by-one",
    feature="split-ports",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "The match is asked for port by port of the root.",
        ),
    ),
    rules=("S5",),
)
