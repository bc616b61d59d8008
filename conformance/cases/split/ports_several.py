"""Every port of the root is split, by the same weights."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    for port in (8080, 9090):
        await becomes_shared(mesh, "client", f"http://birds:{port}/", {"alpha": 50, "beta": 50}, picks=200)


CASE = Case(
    name="ports-several",
    feature="split-ports",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "A TrafficSplit names no ports: it is about each port of its root in the same way.",
        ),
    ),
    rules=("S5",),
)
