"""Weights that are no whole numbers (a fraction, a text, a quantity) are refused or reported."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served

WEIGHTS = (0.5, "50", "500m", "half", None)


def _split(weight: object) -> dict[str, object]:
    backends = [{"service": "alpha", "weight": weight}, {"service": "beta", "weight": 1}]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "web"},
        "spec": {"service": "web", "backends": backends},
    }


async def run(mesh: Mesh) -> None:
    for weight in WEIGHTS:
        refusal = await mesh.attempt_object(_split(weight))
        if refusal is not None:
            expect(400 <= refusal.status < 500, f"weight {weight!r}: refused with {refusal.status}")
            continue
        await mesh.settle()
        conditions = await mesh.conditions("TrafficSplit", "web")
        events = await mesh.events("TrafficSplit", "web")
        told = any(condition.status == "False" for condition in conditions.values())
        expect(
            told or any(event.type == "Warning" for event in events),
            f"weight {weight!r} is accepted without a word",
        )
        await mesh.delete("TrafficSplit", "web")
    await mesh.settle()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="admission-whole-weights",
    feature="split-admission",
    level=Level.CORE,
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
