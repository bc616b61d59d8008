"""A connection that is not HTTP meets no filtered split, however wide the filter."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect_exactly
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)
    await mesh.settle()
    conversations = await mesh.talk("client", "web", 8090, count=60)
    expect_exactly(conversations, "alpha", "beta", "gamma")


CASE = Case(
    name="matches-not-met-by-tcp",
    feature="split-matches",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R4",),
    needs=("split-tcp", "specs-http-path"),
)
