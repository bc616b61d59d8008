"""A path that has no safe form is answered 400 and reaches nobody."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/ok", "alpha")
    before = await mesh.reached("alpha")
    for path in ("/a%00b", "/100%", "/a%zz", "/%", "/%2"):
        answer = (await mesh.call("client", f"http://alpha:8080{path}")).one
        expect(answer.status == 400 and answer.server is None, f"{path} came to {answer}")
    expect(await mesh.reached("alpha") == before, "a path without safe form reached the application")


CASE = Case(
    name="path-without-safe-form",
    feature="specs-http-normalisation",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S19",),
    access="closed",
)
