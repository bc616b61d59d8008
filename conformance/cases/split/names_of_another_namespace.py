"""A backend of another namespace is refused, or gets nothing: backends are Services of the split's own."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect


async def run(mesh: Mesh) -> None:
    refusal = await mesh.attempt()
    if refusal is None:
        await mesh.settle()
    else:
        expect(400 <= refusal.status < 500, f"refused with {refusal.status}: {refusal.message}")
    answers = await mesh.call("client", "http://web:8080/", count=100)
    expect(
        "visitor" not in answers.servers and not answers.statuses.get(403),
        f"the other namespace took part: {answers}",
    )


CASE = Case(
    name="names-of-another-namespace",
    feature="split-names",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Backends are Services inside the namespace of the TrafficSplit.",
        ),
    ),
    rules=("R13",),
)
