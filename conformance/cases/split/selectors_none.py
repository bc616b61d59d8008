"""A root without selector and endpoints is split."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://shop:8080/", {"alpha": 50, "beta": 50}, picks=200)


CASE = Case(
    name="selectors-none",
    feature="split-selectors",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "The root is a name; who answers is said by the backends.",
        ),
    ),
    rules=("S12",),
)
