"""Neither capitals nor a trailing dot make a root another one."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    space = mesh.namespace
    for host in ("WEB", f"Web.{space}.SVC", f"web.{space}.svc.cluster.local."):
        await becomes_shared(mesh, "client", f"http://{host}:8080/", {"alpha": 50, "beta": 50}, picks=60)


CASE = Case(
    name="names-in-odd-forms",
    feature="split-names",
    level=Level.EXTENDED,
    run=run,
    rules=("S4",),
)
