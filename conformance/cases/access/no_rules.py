"""A TrafficTarget without rules is refused, or allows nothing."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied, is_tcp_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    refusal = await mesh.attempt("nothing")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    await is_tcp_denied(mesh, "client", "alpha", 8090)
    if refusal is not None:
        expect(400 <= refusal.status < 500, f"refused with {refusal.status}: {refusal.message}")
    await mesh.apply("something")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")


CASE = Case(
    name="no-rules",
    feature="access-admission",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A valid TrafficTarget specifies at least one rule.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
