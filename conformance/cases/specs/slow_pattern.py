"""A pattern that would take for ever in a backtracking engine does not."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    path = "/" + "a" * 40
    await becomes_served(mesh, "client", f"http://alpha:8080{path}b", "alpha")
    await mesh.settle()
    answer = (await mesh.call("client", f"http://alpha:8080{path}c")).one
    expect(answer.status == 403, f"a request that the pattern does not match came to {answer}")
    expect(answer.seconds < 1, f"it was refused after {answer.seconds:.1f} s only")


CASE = Case(
    name="slow-pattern",
    feature="specs-admission",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S18",),
    access="closed",
)
