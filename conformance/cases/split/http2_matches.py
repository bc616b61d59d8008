"""Of the HTTP/2 requests of one connection only those that match are split."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(
        mesh, "client", "http://web:8080/", "beta", count=30, headers={"x-beta": "yes"}, http="http/2"
    )
    await becomes_served(
        mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60, http="http/2"
    )


CASE = Case(
    name="http2-matches",
    feature="split-http2",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "With `matches`, requests that meet the header conditions are split; all others are not.",
        ),
    ),
    rules=("S9", "S13"),
    needs=("split-matches", "specs-http-header"),
)
