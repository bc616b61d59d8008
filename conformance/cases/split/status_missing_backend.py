"""A backend that does not exist is BackendsResolved=False, and the split is accepted all the same."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import condition_becomes


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await condition_becomes(mesh, "TrafficSplit", "shop", "BackendsResolved", "False", "BackendNotFound")
    await condition_becomes(mesh, "TrafficSplit", "shop", "Accepted", "True")
    await mesh.apply("later")
    await condition_becomes(mesh, "TrafficSplit", "shop", "BackendsResolved", "True")


CASE = Case(
    name="status-missing-backend",
    feature="split-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S6", "S31"),
)
