"""Repeated slashes are one slash, after dot segments have been resolved."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /public/a", "GET //public//a", "GET /public///a"),
        refused=("GET //admin", "GET /public/..//admin", "GET //public/../..//admin"),
    )

    answer = (await mesh.call("client", "http://alpha:8080//public///a")).one
    expect(
        answer.server == "alpha" and answer.seen["target"] == "/public/a",
        f"the application saw {answer.body}",
    )


CASE = Case(
    name="path-repeated-slashes",
    feature="specs-http-normalisation",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S19", "R8"),
    access="closed",
)
