"""HTTP/2 requests are shared by weight, one by one, also those of one connection."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect_shares
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    weights = {"alpha": 70, "beta": 30}
    await becomes_shared(mesh, "client", "http://web:8080/", weights, picks=20, http="http/2")
    answers = await mesh.call("client", "http://web:8080/", count=300, concurrency=1, http="http/2")
    expect_shares(weights, answers, 300)


CASE = Case(
    name="http2-weights",
    feature="split-http2",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Traffic is weighted between the backends.",
        ),
    ),
    rules=("S13",),
)
