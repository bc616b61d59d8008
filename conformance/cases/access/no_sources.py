"""A TrafficTarget without sources is refused, or allows nobody."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    refusal = await mesh.attempt("nobody")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    if refusal is not None:
        expect(400 <= refusal.status < 500, f"refused with {refusal.status}: {refusal.message}")
    await mesh.apply("somebody")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")


CASE = Case(
    name="no-sources",
    feature="access-admission",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A valid TrafficTarget specifies at least one source.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
