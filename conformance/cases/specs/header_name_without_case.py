"""The name of a header has no case, in the manifest as in the request."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha", headers={"x-BETA": "yes"})
    await mesh.settle()
    await is_served(mesh, "client", "http://alpha:8080/", "alpha", headers={"x-beta": "yes"})
    await is_denied(mesh, "client", "http://alpha:8080/", headers={"x-beta": "no"})


CASE = Case(
    name="header-name-without-case",
    feature="specs-http-header",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTP header filters",
            "The key of a filter is the name of an HTTP header.",
        ),
    ),
    rules=("S17",),
    access="closed",
)
