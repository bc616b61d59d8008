"""Of two filtered splits that a request meets, the one with the longer literal path decides."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/api/users", "alpha", count=30)
    await becomes_served(mesh, "client", "http://web:8080/api/orders/7", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/api/orders/7", "beta", count=60)
    await is_served(mesh, "client", "http://web:8080/api/users", "alpha", count=60)


CASE = Case(
    name="several-longer-path-first",
    feature="split-several",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S11", "R4"),
    needs=("split-matches", "specs-http-path"),
)
