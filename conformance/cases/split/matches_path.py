"""A split may be limited to paths and methods too, not only to headers."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/new/1?page=2", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/new", "beta", count=60)
    await becomes_served(mesh, "client", "http://web:8080/old/new", "alpha", "beta", "gamma", count=60)
    await becomes_served(
        mesh, "client", "http://web:8080/new", "alpha", "beta", "gamma", count=60, method="POST"
    )


CASE = Case(
    name="matches-path",
    feature="split-matches",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "`matches` refers to HTTPRouteGroups, which can name paths and methods.",
        ),
    ),
    rules=("S9", "S16"),
    needs=("specs-http-path", "specs-http-method"),
)
