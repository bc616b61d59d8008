"""TrafficTargets for the same pair add up, and taking one away leaves the other."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, becomes_denied, becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/write", "alpha", method="POST")
    await allows_exactly(
        mesh, "client", "alpha", allowed=("GET /read", "POST /write"), refused=("POST /read", "GET /write")
    )
    await mesh.delete("TrafficTarget", "reading")
    await becomes_denied(mesh, "client", "http://alpha:8080/read")
    await is_served(mesh, "client", "http://alpha:8080/write", "alpha", method="POST")


CASE = Case(
    name="targets-add-up",
    feature="access-combination",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Specification",
            "Access control is additive: each TrafficTarget adds what it allows.",
        ),
    ),
    rules=("S21", "S29"),
    access="closed",
)
