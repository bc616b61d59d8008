"""The A/B example: Firefox users go to the second version, though the first is listed with weight 0."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served

FIREFOX = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"}
CHROME = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"}
EVERYBODY = ("alpha", "beta", "gamma")


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers=FIREFOX)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "beta", count=100, headers=FIREFOX)
    await becomes_served(mesh, "client", "http://web:8080/", *EVERYBODY, count=60, headers=CHROME)


CASE = Case(
    name="matches-example",
    feature="split-matches",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Requests that meet the conditions of `matches` are split; all others go where the root leads.",
        ),
    ),
    rules=("S9",),
    needs=("specs-http-header",),
)
