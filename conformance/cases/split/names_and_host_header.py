"""Where a call is made to decides, not its Host header."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect_served
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)
    await mesh.settle()
    for called, server, host in (("alpha", "alpha", "web:8080"), ("web", "beta", "alpha:8080")):
        answers = await mesh.call("client", f"http://{called}:8080/", count=30, headers={"host": host})
        # An explicit proxy may refuse a request whose target and Host contradict each other.
        if answers.statuses.get(400) != answers.total:
            expect_served(answers, server)


CASE = Case(
    name="names-and-host-header",
    feature="split-names",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S4",),
)
