"""Several lines of one header are one value, joined with a comma."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_served

URL = "http://alpha:8080/"


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", URL, "alpha", headers=[("x-team", "red"), ("x-team", "blue")])
    await mesh.settle()
    await is_served(mesh, "client", URL, "alpha", headers={"x-team": "red, blue"})
    await is_denied(mesh, "client", URL, headers=[("x-team", "blue"), ("x-team", "red")])
    await is_denied(mesh, "client", URL, headers={"x-team": "red"})
    await is_denied(mesh, "client", URL, headers=[("x-team", "red"), ("x-team", "blue"), ("x-team", "green")])


CASE = Case(
    name="header-of-several-lines",
    feature="specs-http-header",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R7",),
    access="closed",
)
