"""`spec.service` may be written with the namespace, or fully qualified."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    domain = f"{mesh.namespace}.svc.cluster.local"
    for root in (f"web.{mesh.namespace}", f"web.{mesh.namespace}.svc", f"web.{domain}", f"web.{domain}."):
        await mesh.apply(root=root)
        await becomes_served(mesh, "client", "http://web:8080/", "beta", count=30)
        await mesh.delete("TrafficSplit", "web")
        await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="names-of-root-in-split",
    feature="split-names",
    level=Level.EXTENDED,
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
