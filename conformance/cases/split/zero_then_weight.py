"""A split of all zeros serves again as soon as one weight is not."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply(weight=0)
    await mesh.settle()
    await mesh.apply(weight=1)
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)
    await mesh.settle()
    await is_served(mesh, "client", "http://web:8080/", "beta", count=50)


CASE = Case(
    name="zero-then-weight",
    feature="split-zero",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "Raising a weight from 0 brings traffic to the backend.",
        ),
    ),
    rules=("S8", "S15"),
)
