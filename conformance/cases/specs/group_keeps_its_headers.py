"""A client that reads and writes an HTTPRouteGroup in v1alpha1 does not lose its header filters."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha", headers={"x-beta": "yes"})

    async def edited() -> None:
        seen = await mesh.read("HTTPRouteGroup", "routes", version="v1alpha1")
        seen["matches"].append({"name": "ping", "pathRegex": "/ping", "methods": ["GET"]})
        await mesh.replace(seen)

    await mesh.converge(edited, "reading and writing back in v1alpha1")
    back = await mesh.read("HTTPRouteGroup", "routes", version="v1alpha4")
    matches = back.get("spec", {}).get("matches") or [{}]
    expect(matches[0].get("headers") == {"x-beta": "^yes$"}, f"the header filter is lost: {matches}")
    await becomes_served(mesh, "client", "http://alpha:8080/ping", "alpha")
    await is_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="group-keeps-its-headers",
    feature="specs-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R12", "S1"),
    access="closed",
)
