"""Shares hold for clients that open a connection per request."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 25, "beta": 75}, keep_alive=False)


CASE = Case(
    name="weights-with-new-connections",
    feature="split-weights",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Traffic is weighted between the backends.",
        ),
    ),
    rules=("S13",),
)
