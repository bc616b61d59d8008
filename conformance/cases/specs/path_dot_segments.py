"""Dot segments are resolved before a path is matched, and the application gets the result."""

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
        allowed=("GET /public/a", "GET /x/../public/a", "GET /public/./a", "GET /../public"),
        refused=(
            "GET /public/../admin",
            "GET /public/..",
            "GET /public/a/../../admin",
            "GET /public/./../admin",
        ),
    )

    answer = (await mesh.call("client", "http://alpha:8080/x/../public/./a?b=..%2f")).one
    expect(
        answer.server == "alpha" and answer.seen["target"] == "/public/a?b=..%2f",
        f"the application saw {answer.body}",
    )


CASE = Case(
    name="path-dot-segments",
    feature="specs-http-normalisation",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S19",),
    access="closed",
)
