"""Deleting a TrafficTarget takes away what it allowed, and nothing else."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import (
    becomes_denied,
    becomes_served,
    is_denied,
    is_served,
    is_tcp_denied,
    tcp_becomes_served,
)


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")
    await becomes_served(mesh, "other", "http://alpha:8080/", "alpha")
    await mesh.delete("TrafficTarget", "client-to-alpha")
    await becomes_denied(mesh, "client", "http://alpha:8080/")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/", count=10)
    await is_tcp_denied(mesh, "client", "alpha", 8090, count=3)
    await is_served(mesh, "other", "http://alpha:8080/", "alpha", count=5)


CASE = Case(
    name="deleted-target",
    feature="access-lifecycle",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "Specification",
            "Without a TrafficTarget that allows it traffic is denied, also when there was one before.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
