"""Workloads of one service account need a TrafficTarget to call each other, too."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.deploy("twin", account="alpha", ports=[("http", 8080)])
    await becomes_denied(mesh, "twin", "http://alpha:8080/")
    await mesh.apply("open")
    await becomes_served(mesh, "twin", "http://alpha:8080/", "alpha")


CASE = Case(
    name="own-account-is-no-exception",
    feature="access-identity",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S28",),
    access="closed",
)
