"""A pattern that is no regular expression is refused, or opens nothing, and harms no other match."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    refusal = await mesh.attempt("bad")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/(items")
    await is_denied(mesh, "client", "http://alpha:8080/")
    if refusal is not None:
        expect(400 <= refusal.status < 500, f"refused with {refusal.status}: {refusal.message}")
    else:
        await becomes_served(mesh, "client", "http://alpha:8080/good", "alpha")
    await mesh.apply("good")
    await becomes_served(mesh, "client", "http://alpha:8080/good", "alpha")


CASE = Case(
    name="bad-pattern",
    feature="specs-admission",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "`pathRegex` is a regular expression.",
        ),
    ),
    rules=("S18", "R3"),
    access="closed",
)
