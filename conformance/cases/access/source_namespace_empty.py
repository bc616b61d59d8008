"""A source without a namespace is of the TrafficTarget's own."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    url = f"http://alpha.{mesh.namespace}:8080/"
    await mesh.apply()
    await becomes_served(mesh, "client", url, "alpha")
    await mesh.settle()
    await is_denied(mesh, "visitor", url)


CASE = Case(
    name="source-namespace-empty",
    feature="access-namespaces",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S23",),
    access="closed",
)
