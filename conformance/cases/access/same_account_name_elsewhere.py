"""An account of the same name in another namespace is somebody else."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    url = f"http://alpha.{mesh.namespace}:8080/"
    await mesh.apply("own")
    await becomes_served(mesh, "client", url, "alpha")
    await mesh.settle()
    await is_denied(mesh, "visitor", url)
    await mesh.delete("TrafficTarget", "client-to-alpha")
    await mesh.apply("elsewhere")
    await becomes_served(mesh, "visitor", url, "alpha")
    await becomes_denied(mesh, "client", url)


CASE = Case(
    name="same-account-name-elsewhere",
    feature="access-namespaces",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A source is a service account of the namespace it names; only pods that hold that one "
            "are allowed.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
