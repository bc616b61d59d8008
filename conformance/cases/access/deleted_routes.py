"""Deleting an HTTPRouteGroup closes what it opened; it does not leave everything open."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha")
    await mesh.delete("HTTPRouteGroup", "routes")
    await becomes_denied(mesh, "client", "http://alpha:8080/items")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/other")


CASE = Case(
    name="deleted-routes",
    feature="access-lifecycle",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Only calls on a route that the referenced specs define are allowed.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
