"""A caller does not steer around a backend that refuses it: weights stay as written."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect, judge_shares


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def both_seen() -> None:
        answers = await mesh.call("client", "http://web:8080/", count=20)
        expect(
            answers.servers.get("alpha") and answers.statuses.get(403),
            f"expected alpha and 403, saw {answers}",
        )

    await mesh.converge(both_seen, "alpha answers and beta refuses")
    await mesh.settle()
    answers = await mesh.call("client", "http://web:8080/", count=300, concurrency=4)
    counts = {"alpha": answers.servers.get("alpha", 0), "refused by beta": answers.statuses.get(403, 0)}
    wrong = [
        share
        for share in judge_shares({"alpha": 50, "refused by beta": 50}, counts, picks=300)
        if not share.ok
    ]
    expect(not wrong and sum(counts.values()) == 300, f"expected half served, half refused; saw {answers}")


CASE = Case(
    name="weights-ignore-refusals",
    feature="split-weights",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R6",),
    access="closed",
    needs=("access-http",),
)
