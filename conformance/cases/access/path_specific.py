"""Of two matches in a group a TrafficTarget opens the one it names, on the ports of its TCPRoute."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(
        mesh,
        "client",
        "alpha",
        allowed=("GET /metrics",),
        refused=("POST /metrics", "GET /", "GET /other"),
    )
    await is_denied(mesh, "other", "http://alpha:8080/metrics")


CASE = Case(
    name="path-specific",
    feature="access-http",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A listed source that calls on a route which is not in the rules is denied; `matches` "
            "limits a rule to the matches it names.",
        ),
    ),
    rules=("S21",),
    access="closed",
)
