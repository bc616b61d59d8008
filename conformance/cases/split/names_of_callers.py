"""A root is split under each of its names: short, with namespace, and fully qualified."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    space = mesh.namespace
    for host in ("web", f"web.{space}", f"web.{space}.svc", f"web.{space}.svc.cluster.local"):
        await becomes_shared(mesh, "client", f"http://{host}:8080/", {"alpha": 50, "beta": 50}, picks=100)


CASE = Case(
    name="names-of-callers",
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
