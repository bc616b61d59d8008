"""Of any 100 requests in a row each of two backends gets its share, give or take one."""

from __future__ import annotations

from fractions import Fraction

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect, expect_served
from conformance.observe import becomes_shared

WEIGHTS = {"alpha": 70, "beta": 30}


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", WEIGHTS, picks=30)
    picks: list[str | None] = []
    for _ in range(4):
        answers = await mesh.call("client", "http://web:8080/", count=100)
        expect_served(answers, *WEIGHTS)
        picks += [answer.server for answer in answers.results]
    for name, weight in WEIGHTS.items():
        share = Fraction(100 * weight, sum(WEIGHTS.values()))
        for start in range(len(picks) - 99):
            count = picks[start : start + 100].count(name)
            text = f"picks {start} to {start + 99}: {name} {count} times, its share is {float(share):.1f}"
            expect(abs(count - share) <= 1, text)


CASE = Case(
    name="smooth-two-backends",
    feature="split-smoothness",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S14",),
)
