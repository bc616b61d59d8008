"""A root whose selector fits no backend is split all the same, and its own pods get nothing."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://shop:8080/", {"alpha": 50, "beta": 50}, picks=200)


CASE = Case(
    name="selectors-of-root",
    feature="split-selectors",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Each backend has a selector of its own; only `spec.service` ties root and split together.",
        ),
    ),
    rules=("S12",),
)
