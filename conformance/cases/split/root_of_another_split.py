"""Splits are not hierarchical: a backend that is itself a root stands for its own endpoints."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://inner:8080/", "alpha", count=20)
    await becomes_served(mesh, "client", "http://outer:8080/", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://outer:8080/", "beta", count=100)


CASE = Case(
    name="root-of-another-split",
    feature="split-root-backend",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Tradeoffs",
            "A backend does not refer to another split; implementations need not follow nested definitions.",
        ),
    ),
    rules=("S10",),
)
