"""A header filter looks anywhere in the value; ^ and $ tie it to the ends."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_served

URL = "http://alpha:8080/"


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", URL, "alpha", headers={"x-free": "one two three"})
    await mesh.settle()
    await is_served(mesh, "client", URL, "alpha", headers={"x-tied": "two"})
    await is_denied(mesh, "client", URL, headers={"x-tied": "one two three"})
    await is_denied(mesh, "client", URL, headers={"x-free": "one three"})


CASE = Case(
    name="header-value-is-searched",
    feature="specs-http-header",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S16",),
    access="closed",
)
