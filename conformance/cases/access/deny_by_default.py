"""Without any TrafficTarget nobody may call anybody, over HTTP or TCP; a TrafficTarget opens what it says."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied, is_tcp_denied


async def run(mesh: Mesh) -> None:
    before = await mesh.reached("alpha")
    await is_denied(mesh, "client", "http://alpha:8080/")
    await is_tcp_denied(mesh, "client", "alpha", 8090)
    expect(await mesh.reached("alpha") == before, "a refused request reached the application")
    await mesh.apply("open")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await is_denied(mesh, "other", "http://alpha:8080/")
    await is_denied(mesh, "client", "http://beta:8080/")


CASE = Case(
    name="deny-by-default",
    feature="access-deny-default",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Access control is additive: all traffic is denied until a TrafficTarget allows it.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
