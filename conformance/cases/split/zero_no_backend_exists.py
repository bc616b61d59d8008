"""No backend exists: calls are answered 503, not by the root."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_unavailable, is_unavailable

EVERYBODY = ("alpha", "beta", "gamma")


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_unavailable(mesh, "client", "http://web:8080/")
    await mesh.settle()
    before = [await mesh.reached(server) for server in EVERYBODY]
    await is_unavailable(mesh, "client", "http://web:8080/", count=50)
    after = [await mesh.reached(server) for server in EVERYBODY]
    expect(after == before, f"requests reached the applications: {before} before, {after} after")


CASE = Case(
    name="zero-no-backend-exists",
    feature="split-zero",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S8", "S6"),
)
