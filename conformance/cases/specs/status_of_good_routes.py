"""Route objects that are in force say so: Accepted."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import condition_becomes


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    for kind in ("HTTPRouteGroup", "TCPRoute", "UDPRoute"):
        await condition_becomes(mesh, kind, "routes", "Accepted", "True")
        await condition_becomes(mesh, kind, "routes", "Programmed", "True")


CASE = Case(
    name="status-of-good-routes",
    feature="specs-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S31",),
    access="closed",
)
