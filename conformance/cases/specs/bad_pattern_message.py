"""The refusal of a bad pattern names the match and the field, in paths and in headers."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect


async def run(mesh: Mesh) -> None:
    for step, field in (("path", "spec.matches[1].pathRegex"), ("header", "spec.matches[0].headers")):
        refusal = await mesh.attempt(step)
        expect(refusal is not None, f"a bad pattern in {field} was accepted")
        if refusal is not None:
            expect(field in refusal.message, f"the refusal does not name {field}: {refusal.message}")


CASE = Case(
    name="bad-pattern-message",
    feature="specs-admission",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S18",),
    access="closed",
)
