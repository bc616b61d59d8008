"""Shares hold while unrelated objects change all the time: an update does not begin the cycle anew."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect, expect_served, judge_shares
from conformance.observe import becomes_shared, is_served

WEIGHTS = {"alpha": 50, "beta": 50}
ROUNDS = 30


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", WEIGHTS, picks=20)
    await is_served(mesh, "client", "http://shop:8080/", "gamma", count=5)
    counts = dict.fromkeys(WEIGHTS, 0)
    for turn in range(ROUNDS):
        backends = [{"service": "alpha", "weight": turn}, {"service": "gamma", "weight": 1}]
        await mesh.patch("TrafficSplit", "unrelated", {"spec": {"backends": backends}})
        await mesh.settle()  # between any two calls an update is worked in: a cycle begun anew has one answer
        answers = await mesh.call("client", "http://web:8080/")
        expect_served(answers, *WEIGHTS)
        for name, count in answers.servers.items():
            counts[name] += count
    wrong = [share for share in judge_shares(WEIGHTS, counts, picks=ROUNDS) if not share.ok]
    expect(not wrong, f"shares under churn: {counts}, allowed {[str(share.bound) for share in wrong]}")


CASE = Case(
    name="smooth-under-churn",
    feature="split-smoothness",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Traffic to the root is weighted between its backends.",
        ),
    ),
    rules=("S14", "S15"),
)
