"""A filtered split is asked before the one of all traffic, which takes what the filter leaves."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=30)
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers={"x-beta": "yes"})
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "alpha", count=60)
    await is_served(mesh, "client", "http://web:8080/", "beta", count=60, headers={"x-beta": "yes"})


CASE = Case(
    name="several-filtered-before-all",
    feature="split-several",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S11", "R4"),
    needs=("split-matches", "specs-http-header"),
)
