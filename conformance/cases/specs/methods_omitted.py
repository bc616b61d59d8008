"""A match without methods holds for any, with an empty list as well as without one."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /none", "DELETE /none", "POST /empty", "GET /empty"),
        refused=("GET /",),
    )


CASE = Case(
    name="methods-omitted",
    feature="specs-http-method",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTP header filters",
            "Where methods are not defined a match applies to all of them.",
        ),
    ),
    rules=("S17",),
    access="closed",
)
