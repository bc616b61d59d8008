"""A narrower TrafficTarget beside a wide one takes no permission away."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("wide")
    await becomes_served(mesh, "client", "http://alpha:8080/anything", "alpha", method="DELETE")
    await mesh.apply("narrow")
    await mesh.settle()
    await is_served(mesh, "client", "http://alpha:8080/anything", "alpha", method="DELETE", count=5)
    await is_served(mesh, "client", "http://alpha:8080/read", "alpha", count=5)
    await becomes_served(mesh, "other", "http://alpha:8080/read", "alpha")


CASE = Case(
    name="narrow-target-takes-nothing",
    feature="access-combination",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Tradeoffs",
            "Policy only ever allows; nothing can be written that denies.",
        ),
    ),
    rules=("S29",),
    access="closed",
)
