"""Changing the sources of a TrafficTarget lets the new one in and the old one out."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("client")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await mesh.settle()
    await is_denied(mesh, "other", "http://alpha:8080/")
    await mesh.apply("other")
    await becomes_served(mesh, "other", "http://alpha:8080/", "alpha")
    await becomes_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="changed-sources",
    feature="access-lifecycle",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Only pods whose service account is named in the sources are allowed.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
