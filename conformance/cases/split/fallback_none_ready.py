"""With the fall-back annotation, calls go to the root also when backends exist but none is ready."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://shop:8080/", "gamma", count=30)
    await mesh.patch("Service", "moving", {"spec": {"selector": {"app": "alpha"}}})
    await becomes_served(mesh, "client", "http://shop:8080/", "alpha", count=30)
    await mesh.patch("Service", "moving", {"spec": {"selector": {"app": "no-such-app"}}})
    await becomes_served(mesh, "client", "http://shop:8080/", "gamma", count=30)


CASE = Case(
    name="fallback-none-ready",
    feature="split-fallback",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R5", "S7"),
)
