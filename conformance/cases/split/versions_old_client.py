"""A client that writes back a version without `matches` does not lose it, and its change counts."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    headers = {"x-beta": "yes"}
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=30, headers=headers)

    async def write_back() -> None:
        old = await mesh.read("TrafficSplit", "web", version="v1alpha2")
        expect(
            "matches" not in old["spec"], f"v1alpha2 has no matches, but shows {old['spec'].get('matches')}"
        )
        old["spec"]["backends"] = [{"service": "beta", "weight": 1}]
        await mesh.replace(old)

    await mesh.converge(write_back, "a write that meets no other")
    new = await mesh.read("TrafficSplit", "web", version="v1alpha4")
    expect(new["spec"].get("matches"), f"the matches are lost: {new['spec']}")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30, headers=headers)
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="versions-old-client",
    feature="split-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R12",),
    needs=("split-matches", "specs-http-header"),
)
