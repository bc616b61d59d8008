"""A TrafficTarget opens every pod that holds the destination's account, by whatever Service it is called."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.deploy("twin", account="alpha", ports=[("http", 8080)])
    await becomes_denied(mesh, "client", "http://twin:8080/")
    await mesh.apply("open")
    await becomes_served(mesh, "client", "http://twin:8080/", "twin")
    await becomes_served(mesh, "client", "http://also-alpha:80/", "alpha")
    await is_denied(mesh, "client", "http://beta:8080/")


CASE = Case(
    name="destination-is-account",
    feature="access-identity",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "The destination is a service identity: all pods that have the service account, not one Service.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
