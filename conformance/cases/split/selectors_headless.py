"""A headless root is split: its pods' addresses stand for it."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://shop:8080/", {"alpha": 50, "beta": 50}, picks=200)
    await mesh.delete("TrafficSplit", "shop")
    await becomes_served(mesh, "client", "http://shop:8080/", "gamma", count=30)


CASE = Case(
    name="selectors-headless",
    feature="split-selectors",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S4", "S12"),
)
