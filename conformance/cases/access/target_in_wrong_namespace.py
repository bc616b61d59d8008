"""A TrafficTarget outside the namespace of its destination opens nothing there."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    url = f"http://alpha.{mesh.namespace}:8080/"
    await mesh.apply("elsewhere")
    await mesh.settle()
    await is_denied(mesh, "visitor", url)
    await is_denied(mesh, "client", url)
    await mesh.apply("here")
    await becomes_served(mesh, "visitor", url, "alpha")


CASE = Case(
    name="target-in-wrong-namespace",
    feature="access-namespaces",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S23",),
    access="closed",
)
