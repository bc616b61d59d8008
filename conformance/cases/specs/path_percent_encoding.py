"""Encoded letters and dots are decoded before a path is matched."""

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
        allowed=("GET /public/a", "GET /%70ublic/a", "GET /public/%61"),
        refused=("GET /public/%2e%2e/admin", "GET /public/%2E./admin", "GET /%61dmin", "GET /public/.%2e"),
    )

    answer = (await mesh.call("client", "http://alpha:8080/%70ublic/%7Ea")).one
    expect(
        answer.server == "alpha" and answer.seen["target"] == "/public/~a",
        f"the application saw {answer.body}",
    )


CASE = Case(
    name="path-percent-encoding",
    feature="specs-http-normalisation",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S19",),
    access="closed",
)
