"""A TrafficTarget with an unknown match name says which."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import condition_becomes


async def run(mesh: Mesh) -> None:
    await mesh.apply("broken")
    await condition_becomes(mesh, "TrafficTarget", "to-alpha", "Accepted", "False", "MatchNotFound")
    conditions = await mesh.conditions("TrafficTarget", "to-alpha")
    message = conditions["Accepted"].message
    expect("typo" in message, f"the message does not name typo: {message}")
    await mesh.apply("mended")
    await condition_becomes(mesh, "TrafficTarget", "to-alpha", "Accepted", "True")


CASE = Case(
    name="status-of-unknown-match",
    feature="access-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S22", "S31", "R2"),
    access="closed",
)
