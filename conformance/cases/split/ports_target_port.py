"""The valid example: the port of the root decides, each backend maps it to its own targetPort."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.deploy("green", env={"HTTP_PORT": "8090", "TCP_PORT": "off"}, ports=[("http", 8090)])
    await mesh.apply()
    await becomes_shared(mesh, "client", "http://birds:8080/", {"alpha": 50, "green": 50})


CASE = Case(
    name="ports-target-port",
    feature="split-ports",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "`port` is mapped to `targetPort` by each backend Service for itself.",
        ),
    ),
    rules=("S5",),
)
