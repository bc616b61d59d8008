"""A method in small letters in a manifest is read as the method of HTTP."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /",), refused=("POST /",))


CASE = Case(
    name="methods-in-small-letters",
    feature="specs-http-method",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R7",),
    access="closed",
)
