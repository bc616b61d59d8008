"""UDP flows are shared by weight."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import udp_becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await udp_becomes_shared(mesh, "client", "web", 8070, {"alpha": 70, "beta": 30})


CASE = Case(
    name="udp-weights",
    feature="split-udp",
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
