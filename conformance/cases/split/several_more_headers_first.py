"""Of two filtered splits that a request meets, the one with more header filters decides."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    both = {"x-beta": "yes", "x-tester": "yes"}
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=30, headers={"x-beta": "yes"})
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers=both)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "beta", count=60, headers=both)
    await is_served(mesh, "client", "http://web:8080/", "alpha", count=60, headers={"x-beta": "yes"})


CASE = Case(
    name="several-more-headers-first",
    feature="split-several",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S11", "R4"),
    needs=("split-matches", "specs-http-header"),
)
