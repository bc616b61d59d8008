"""The younger of two splits of one root carries Conflicted, until the older one is gone."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def one_conflicts() -> str:
        conflicted = []
        for name in ("one", "two"):
            found = (await mesh.conditions("TrafficSplit", name)).get("Conflicted")
            if found is not None and found.current and found.status == "True":
                conflicted.append(name)
        expect(len(conflicted) == 1, f"expected one split to be Conflicted, are: {conflicted}")
        return conflicted[0]

    loser = await mesh.converge(one_conflicts, "one of two splits Conflicted")
    server = "alpha" if loser == "two" else "beta"
    await becomes_served(mesh, "client", "http://web:8080/", server, count=30)
    await mesh.delete("TrafficSplit", "one" if loser == "two" else "two")

    async def no_conflict() -> None:
        found = (await mesh.conditions("TrafficSplit", loser)).get("Conflicted")
        expect(found is None or found.status == "False", f"still {found}")

    await mesh.converge(no_conflict, "the split that is left is not Conflicted")


CASE = Case(
    name="status-conflict",
    feature="split-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S11", "S31"),
)
