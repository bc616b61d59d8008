"""Each client sees the shares, whatever other clients and direct callers do meanwhile."""

from __future__ import annotations

import asyncio

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect_served, expect_shares
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    weights = {"alpha": 80, "beta": 20}
    for caller in ("client", "other"):
        await becomes_shared(mesh, caller, "http://web:8080/", weights, picks=30)
    both = await asyncio.gather(
        mesh.call("client", "http://web:8080/", count=300, concurrency=2),
        mesh.call("other", "http://web:8080/", count=300, concurrency=2),
        mesh.call("client", "http://beta:8080/", count=300, concurrency=2),
    )
    for answers in both[:2]:
        expect_shares(weights, answers, 300)
    expect_served(both[2], "beta")


CASE = Case(
    name="weights-of-each-client",
    feature="split-weights",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "Shares hold for each client, not over all requests that the backends get from anywhere.",
        ),
    ),
)
