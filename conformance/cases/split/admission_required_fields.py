"""A split without a root, without backends, or with a backend that has no name is refused."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    for step in ("no-service", "no-backends", "no-name", "no-weight"):
        refusal = await mesh.attempt(step)
        expect(refusal is not None, f"a TrafficSplit with {step} was accepted")
        expect(refusal is None or 400 <= refusal.status < 500, f"{step}: {refusal}")
    await mesh.settle()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="admission-required-fields",
    feature="split-admission",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "The schema that the text refers to requires a service, and backends with service and weight.",
        ),
    ),
    rules=("R3",),
)
