"""A filtered split with all weights 0 answers 503 to those it filters; nobody else notices."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, becomes_unavailable, is_unavailable


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_unavailable(mesh, "client", "http://web:8080/", headers={"x-beta": "yes"})
    await mesh.settle()
    await is_unavailable(mesh, "client", "http://web:8080/", count=20, headers={"x-beta": "yes"})
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="zero-of-filtered",
    feature="split-zero",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S8", "S9"),
    needs=("split-matches", "specs-http-header"),
)
