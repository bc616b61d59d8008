"""A refusal carries its reason and an id that equal refusals share."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha")
    await mesh.settle()
    seen = []
    for caller, path in (("client", "/a"), ("client", "/b"), ("other", "/items")):
        answer = (await mesh.call(caller, f"http://alpha:8080{path}")).one
        reason, _, identifier = answer.headers.get("x-smi-mesh-denial", "").partition("; id=")
        expect(
            identifier, f"{caller} → {path} came to {answer} without reason and id: {dict(answer.headers)}"
        )
        seen.append((reason, identifier))
    expect(seen[0] == seen[1], f"equal refusals have different ids: {seen[:2]}")
    expect(seen[0][0] == "route-not-allowed", f"the reason of a route that is not allowed is {seen[0][0]}")
    expect(seen[2][0] == "source-not-allowed", f"the reason of a source that is not allowed is {seen[2][0]}")
    expect(seen[0][1] != seen[2][1], f"different refusals share an id: {seen}")


CASE = Case(
    name="denial-says-why",
    feature="access-denial",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S25",),
    access="closed",
)
