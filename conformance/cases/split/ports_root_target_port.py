"""The root's own targetPort means nothing to the backends: here nobody listens on it."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://birds/", {"alpha": 50, "beta": 50}, picks=200)


CASE = Case(
    name="ports-root-target-port",
    feature="split-ports",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "The mapping from `port` to `targetPort` is each backend Service's business, not the root's.",
        ),
    ),
    rules=("S5",),
)
