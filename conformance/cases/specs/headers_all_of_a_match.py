"""Of several header filters in one match all have to hold."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied

URL = "http://alpha:8080/"
ANDROID = {"user-agent": "Mozilla/5.0 (Linux; Android 14)"}
INSIDER = {"cookie": "type=insider"}


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", URL, "alpha", headers=ANDROID | INSIDER)
    await becomes_served(mesh, "client", URL, "alpha", headers=ANDROID | {"cookie": "a=b;type=insider;c=d"})
    await mesh.settle()
    await is_denied(mesh, "client", URL, headers=ANDROID)
    await is_denied(mesh, "client", URL, headers=INSIDER)
    await is_denied(mesh, "client", URL, headers=ANDROID | {"cookie": "type=insiders"})
    await is_denied(mesh, "client", URL)


CASE = Case(
    name="headers-all-of-a-match",
    feature="specs-http-header",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTP header filters",
            "Several header filters of one route are an AND; the example of Android users with a cookie.",
        ),
    ),
    rules=("S16",),
    access="closed",
)
