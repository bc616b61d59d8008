"""Header filters may be written as a list of maps, as the published CRD has them."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied

URL = "http://alpha:8080/"


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", URL, "alpha", headers={"x-beta": "yes", "x-team": "red"})
    await mesh.settle()
    await is_denied(mesh, "client", URL, headers={"x-beta": "yes"})
    await is_denied(mesh, "client", URL, headers={"x-team": "red"})
    await is_denied(mesh, "client", URL)


CASE = Case(
    name="headers-as-list",
    feature="specs-http-header",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTP header filters",
            "A route specifies a list of HTTP header filters.",
        ),
    ),
    rules=("S2",),
    access="closed",
)
