"""A backend that gets the missing port takes part from then on."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://birds:8080/", "beta", count=30)
    mended = [{"name": "http", "port": 8080, "targetPort": 8080}]
    await mesh.patch("Service", "blue-birds", {"spec": {"ports": mended}})
    await becomes_shared(mesh, "client", "http://birds:8080/", {"alpha": 50, "beta": 50}, picks=200)


CASE = Case(
    name="ports-mended",
    feature="split-ports",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Ports",
            "A backend is left out because its ports do not match, so it takes part when they do.",
        ),
    ),
    rules=("S5", "S15"),
)
