"""A split whose group is missing matches nothing, and never becomes one that takes all."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect_exactly
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await mesh.settle()
    for headers in ({}, {"x-beta": "yes"}):
        answers = await mesh.call("client", "http://web:8080/", count=60, headers=headers)
        expect_exactly(answers, "alpha", "beta", "gamma")
    await mesh.apply("group")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers={"x-beta": "yes"})
    await mesh.delete("HTTPRouteGroup", "beta-users")
    await mesh.settle()
    await becomes_served(
        mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60, headers={"x-beta": "yes"}
    )


CASE = Case(
    name="matches-missing-group",
    feature="split-matches",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R3",),
    needs=("specs-http-header",),
)
