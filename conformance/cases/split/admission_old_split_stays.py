"""A change that is refused leaves the split as it was; one that is accepted does not let traffic fail."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("good")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)
    refusal = await mesh.attempt("bad")
    expect(refusal is not None and 400 <= refusal.status < 500, f"a weight of -1 was accepted: {refusal}")
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "beta", count=60)


CASE = Case(
    name="admission-old-split-stays",
    feature="split-admission",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Weights are whole numbers.",
        ),
    ),
    rules=("S3",),
)
