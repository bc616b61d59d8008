"""Of two splits of all traffic of a root the oldest counts; when it goes, the next one does."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply("older")
    older = (await mesh.read("TrafficSplit", "zz-older"))["metadata"]["creationTimestamp"]

    async def created_later() -> None:
        await mesh.delete("TrafficSplit", "aa-newer")
        await mesh.apply("newer")
        newer = (await mesh.read("TrafficSplit", "aa-newer"))["metadata"]["creationTimestamp"]
        expect(newer > older, "both were created in the same second")

    await mesh.converge(created_later, "a second split, created in another second")
    await mesh.settle()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=30)
    await is_served(mesh, "client", "http://web:8080/", "alpha", count=100)
    await mesh.delete("TrafficSplit", "zz-older")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)


CASE = Case(
    name="several-oldest-counts",
    feature="split-several",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S11",),
)
