"""A match with header filters alone holds for any path and any method."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, becomes_served, is_denied

BETA = {"x-beta": "yes"}


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha", headers=BETA)
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /any/path", "DELETE /", "POST /x?y=z"),
        refused=(),
        headers=BETA,
    )
    await is_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="headers-alone",
    feature="specs-http-header",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTP header filters",
            "When pathRegex and methods are not defined, header filters apply to any path and all methods.",
        ),
    ),
    rules=("S17",),
    access="closed",
)
