"""Backends may be written in the long forms of the split's own namespace."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 50, "beta": 50}, picks=100)


CASE = Case(
    name="names-of-backends-in-split",
    feature="split-names",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R13",),
)
