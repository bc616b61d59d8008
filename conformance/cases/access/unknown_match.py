"""A match name that its group does not have allows nothing; it does not stand for all."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("unknown")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/items")
    await is_denied(mesh, "client", "http://alpha:8080/typo")
    await mesh.apply("added")
    await becomes_served(mesh, "client", "http://alpha:8080/typo", "alpha")
    await is_denied(mesh, "client", "http://alpha:8080/items")


CASE = Case(
    name="unknown-match",
    feature="access-references",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A rule with `matches` is valid for the matches it names, and for no others.",
        ),
    ),
    rules=("S22",),
    access="closed",
)
