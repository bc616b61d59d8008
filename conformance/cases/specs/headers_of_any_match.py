"""Matches with header filters of their own are alternatives."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_served

URL = "http://alpha:8080/"


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", URL, "alpha", headers={"user-agent": "Firefox/128.0"})
    await mesh.settle()
    insider = {"user-agent": "Android", "cookie": "type=insider"}
    await is_served(mesh, "client", URL, "alpha", headers=insider)
    await is_denied(mesh, "client", URL, headers={"user-agent": "Android"})
    await is_denied(mesh, "client", URL, headers={"user-agent": "Safari", "cookie": "type=insider"})


CASE = Case(
    name="headers-of-any-match",
    feature="specs-http-header",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTP header filters",
            "Several routes, each with its own header filter, are an OR; the example with Firefox users.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
