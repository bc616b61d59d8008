"""HTTP requests are split one by one, also those of one kept-alive connection."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect_shares
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 60, "beta": 40}, picks=30)
    answers = await mesh.call("client", "http://web:8080/", count=300, concurrency=1, keep_alive=True)
    expect_shares({"alpha": 60, "beta": 40}, answers, 300)


CASE = Case(
    name="weights-on-one-connection",
    feature="split-weights",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "What is split is traffic in percentages, not clients.",
        ),
    ),
    rules=("S13",),
)
