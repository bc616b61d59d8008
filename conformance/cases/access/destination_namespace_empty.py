"""A destination without a namespace is of the TrafficTarget's own."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await mesh.settle()
    await is_denied(mesh, "client", "http://beta:8080/")


CASE = Case(
    name="destination-namespace-empty",
    feature="access-namespaces",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R11",),
    access="closed",
)
