"""The method * stands for all of them."""

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
        allowed=(
            "GET /ping",
            "HEAD /ping",
            "POST /ping",
            "PUT /ping",
            "DELETE /ping",
            "OPTIONS /ping",
            "PATCH /ping",
        ),
        refused=("GET /",),
    )


CASE = Case(
    name="methods-any",
    feature="specs-http-method",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "`*` among the methods matches all methods.",
        ),
    ),
    rules=("S17",),
    access="closed",
)
