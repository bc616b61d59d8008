"""A TrafficTarget that is in force says so: Accepted, ResolvedRefs and Programmed."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import condition_becomes, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    for condition in ("Accepted", "ResolvedRefs", "Programmed"):
        await condition_becomes(mesh, "TrafficTarget", "client-to-alpha", condition, "True")
    await is_served(mesh, "client", "http://alpha:8080/", "alpha")


CASE = Case(
    name="status-of-good-target",
    feature="access-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S31",),
    access="closed",
)
