"""When the split that counts has nobody to send to, the next one does not step in."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, becomes_unavailable, is_unavailable


async def run(mesh: Mesh) -> None:
    await mesh.apply("older")
    await becomes_unavailable(mesh, "client", "http://web:8080/")
    older = (await mesh.read("TrafficSplit", "aa-older"))["metadata"]["creationTimestamp"]

    async def created_later() -> None:
        await mesh.delete("TrafficSplit", "zz-newer")
        await mesh.apply("newer")
        newer = (await mesh.read("TrafficSplit", "zz-newer"))["metadata"]["creationTimestamp"]
        expect(newer > older, "both were created in the same second")

    await mesh.converge(created_later, "a second split, created in another second")
    await mesh.settle()
    await is_unavailable(mesh, "client", "http://web:8080/", count=20)
    await mesh.delete("TrafficSplit", "aa-older")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=20)


CASE = Case(
    name="several-no-second-chance",
    feature="split-several",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R4", "S8"),
)
