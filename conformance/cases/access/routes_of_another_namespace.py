"""A rule means the route object of the TrafficTarget's own namespace."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("elsewhere")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    await mesh.apply("here")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")


CASE = Case(
    name="routes-of-another-namespace",
    feature="access-references",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A rule refers to route objects by kind and name, without a namespace.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
