"""The same number over UDP is another port."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://birds:8080/", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://birds:8080/", "beta", count=100)


CASE = Case(
    name="ports-by-protocol",
    feature="split-ports",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S5",),
)
