"""A rule of a kind that the mesh does not know is refused, or allows nothing, alone or beside others."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    refusals = [await mesh.attempt(step) for step in ("alone", "beside-tcp")]
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    await is_denied(mesh, "other", "http://alpha:8080/")
    for refusal in refusals:
        expect(
            refusal is None or "kind" in refusal.message, f"the message does not name the field: {refusal}"
        )
    await mesh.apply("known")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")


CASE = Case(
    name="unknown-rule-kind",
    feature="access-admission",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R2", "S22"),
    access="closed",
)
