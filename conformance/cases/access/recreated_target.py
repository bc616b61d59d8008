"""A TrafficTarget that is made anew under its old name means what it says now."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, becomes_denied, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("first")
    await becomes_served(mesh, "client", "http://alpha:8080/one", "alpha")
    await mesh.delete("TrafficTarget", "to-alpha")
    await becomes_denied(mesh, "client", "http://alpha:8080/one")
    await mesh.apply("again")
    await allows_exactly(mesh, "other", "alpha", allowed=("GET /two",), refused=("GET /one",))
    await is_denied(mesh, "client", "http://alpha:8080/one")
    await is_denied(mesh, "client", "http://alpha:8080/two")


CASE = Case(
    name="recreated-target",
    feature="access-lifecycle",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Access follows the TrafficTargets that exist.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
