"""Callers of another namespace are split like those of the root's own."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    url = f"http://web.{mesh.namespace}:8080/"
    await becomes_shared(mesh, "visitor", url, {"alpha": 50, "beta": 50}, picks=200)


CASE = Case(
    name="names-from-elsewhere",
    feature="split-names",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "`spec.service` is the name by which applications reach the root, fully qualified.",
        ),
    ),
    rules=("S4",),
)
