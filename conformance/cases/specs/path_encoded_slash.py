"""An encoded slash is no slash: it is matched and passed on as it was sent."""

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
        allowed=("GET /public/a%2fb", "GET /public/..%2fadmin"),
        refused=("GET /public%2fa", "GET /public%2f..%2fadmin"),
    )

    answer = (await mesh.call("client", "http://alpha:8080/public/a%2Fb")).one
    expect(
        answer.server == "alpha" and answer.seen["target"] == "/public/a%2Fb",
        f"the application saw {answer.body}",
    )


CASE = Case(
    name="path-encoded-slash",
    feature="specs-http-normalisation",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S19", "R8"),
    access="closed",
)
