"""A TrafficTarget without a destination is refused with a message that says so."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    refusal = await mesh.attempt("nowhere")
    expect(refusal is not None, "a TrafficTarget without a destination was accepted")
    if refusal is not None:
        expect(400 <= refusal.status < 500, f"refused with {refusal.status}: {refusal.message}")
        expect(
            "destination" in refusal.message, f"the message does not name what is missing: {refusal.message}"
        )
    await mesh.apply("somewhere")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")


CASE = Case(
    name="no-destination",
    feature="access-admission",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A valid TrafficTarget specifies a destination.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
