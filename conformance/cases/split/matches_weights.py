"""The requests that match are shared by weight."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(
        mesh, "client", "http://web:8080/", {"alpha": 30, "beta": 70}, headers={"x-group": "test"}
    )
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="matches-weights",
    feature="split-matches",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Requests that meet the conditions of `matches` are split; all others go where the root leads.",
        ),
    ),
    rules=("S9",),
    needs=("specs-http-header",),
)
