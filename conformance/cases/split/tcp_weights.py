"""TCP connections are shared by weight."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import tcp_becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await tcp_becomes_shared(mesh, "client", "web", 8090, {"alpha": 70, "beta": 30})


CASE = Case(
    name="tcp-weights",
    feature="split-tcp",
    level=Level.CORE,
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
