"""A header that is not there matches no filter, not even one that accepts anything."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha", headers={"x-any": "thing"})
    await mesh.settle()
    await is_served(mesh, "client", "http://alpha:8080/", "alpha", headers={"x-any": ""})
    await is_denied(mesh, "client", "http://alpha:8080/")
    await is_denied(mesh, "client", "http://alpha:8080/", headers={"x-many": "thing"})


CASE = Case(
    name="header-absent",
    feature="specs-http-header",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R7",),
    access="closed",
)
