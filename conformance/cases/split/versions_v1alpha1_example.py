"""v1alpha1: the example's `10m`, `100m` and `1500m` are exact."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect, expect_served, expect_shares


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def largest_share() -> None:
        answers = await mesh.call("client", "http://web:8080/", count=20)
        expect_served(answers, "alpha", "beta", "gamma")
        expect(answers.servers.get("gamma", 0) > 12, f"the largest share is not the third one's: {answers}")

    await mesh.converge(largest_share, "the split in force")
    await mesh.settle()
    answers = await mesh.call("client", "http://web:8080/", count=3000, concurrency=4)
    expect_shares({"alpha": 10, "beta": 100, "gamma": 1500}, answers, 3000)


CASE = Case(
    name="versions-v1alpha1-example",
    feature="split-versions",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha1",
            "Specification",
            "Weights are written like resources: 1 is 1000m; the example's are 10m, 100m and 1500m.",
        ),
    ),
    rules=("S1",),
)
