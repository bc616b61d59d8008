"""When `spec.service` changes, the new root is split and the old one is free again."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply(root="web")
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=20)
    await is_served(mesh, "client", "http://shop:8080/", "gamma", count=10)
    await mesh.apply(root="shop")
    await becomes_served(mesh, "client", "http://shop:8080/", "alpha", count=20)
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="lifecycle-other-root",
    feature="split-lifecycle",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "A TrafficSplit is about the root Service that `spec.service` names.",
        ),
    ),
    rules=("S15",),
)
