"""A caller outside the mesh gets plain Kubernetes routing at a root."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.deploy("plain", meshed=False)
    await mesh.apply()
    await becomes_served(mesh, "client", "http://shop:8080/", "alpha", count=30)
    await mesh.settle()
    address = (await mesh.read("Service", "shop"))["spec"]["clusterIP"]  # it may have no DNS outside the mesh
    await is_served(mesh, "outsider", f"http://{address}:8080/", "plain", count=30)


CASE = Case(
    name="selectors-outside-callers",
    feature="split-selectors",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "For clients without a proxy of the mesh the Service goes on as Kubernetes defines it.",
        ),
    ),
    rules=("R13",),
)
