"""The root among its own backends is accepted, with a warning."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import condition_becomes, event_becomes


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await condition_becomes(mesh, "TrafficSplit", "web", "Accepted", "True", "RootAmongBackends")
    await event_becomes(mesh, "TrafficSplit", "web", "RootAmongBackends")


CASE = Case(
    name="status-root-among-backends",
    feature="split-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S10", "S31"),
)
