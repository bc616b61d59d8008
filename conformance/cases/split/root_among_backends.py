"""The root among its own backends means the root's own endpoints: no loop, and its share is exact."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://shop:8080/", {"gamma": 90, "alpha": 10})


CASE = Case(
    name="root-among-backends",
    feature="split-root-backend",
    level=Level.IMPLEMENTATION,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Tradeoffs",
            "A split that names its own root sends that share to the root Service's own pods.",
        ),
    ),
    rules=("S10",),
)
