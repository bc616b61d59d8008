"""Splits of different roots have nothing to do with each other."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 90, "beta": 10})
    await becomes_shared(mesh, "client", "http://shop:8080/", {"alpha": 10, "beta": 90})
    await is_served(mesh, "client", "http://plain:8080/", "gamma", count=20)


CASE = Case(
    name="weights-of-several-roots",
    feature="split-weights",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "A TrafficSplit is about the one root Service that it names.",
        ),
    ),
)
