"""Ports match by number: their names may differ."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://birds:8080/", {"alpha": 50, "beta": 50}, picks=200)


CASE = Case(
    name="ports-by-number",
    feature="split-ports",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "What has to match is the port; the examples differ in its number, under one name.",
        ),
    ),
    rules=("S5",),
)
