"""A TrafficTarget outside the namespace of its destination says that it is in the wrong one."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def told() -> None:
        conditions = await mesh.conditions("TrafficTarget", "to-alpha", namespace=mesh.second)
        found = conditions.get("Accepted")
        text = f"Accepted is {found}"
        expect(found is not None and found.status == "False" and found.reason == "WrongNamespace", text)
        expect(
            found is not None and mesh.namespace in found.message,
            f"the right namespace is not named: {found}",
        )

    await mesh.converge(told, "TrafficTarget to-alpha: Accepted=False (WrongNamespace)")


CASE = Case(
    name="status-of-wrong-namespace",
    feature="access-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S23", "S31"),
    access="closed",
)
