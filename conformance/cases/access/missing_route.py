"""A rule whose HTTPRouteGroup does not exist allows nothing, until the group is there."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("target")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/items")
    await mesh.apply("group")
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /items",), refused=("GET /other",))


CASE = Case(
    name="missing-route",
    feature="access-references",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Only calls on a route that the referenced specs define are allowed; what does not exist "
            "defines none.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
