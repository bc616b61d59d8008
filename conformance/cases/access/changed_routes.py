"""Changing an HTTPRouteGroup changes what every TrafficTarget that refers to it allows."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, becomes_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("before")
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /old",), refused=("GET /new",))
    await mesh.apply("after")
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /new",), refused=())
    await becomes_denied(mesh, "client", "http://alpha:8080/old")


CASE = Case(
    name="changed-routes",
    feature="access-lifecycle",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Access is controlled by the traffic specs that a target refers to.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
