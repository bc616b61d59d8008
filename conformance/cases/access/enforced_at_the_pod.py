"""Who calls a pod by its IP is judged like everybody else."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_tcp_denied


async def run(mesh: Mesh) -> None:
    address = await mesh.address("alpha")
    await is_denied(mesh, "client", f"http://{address}:8080/")
    await is_tcp_denied(mesh, "client", address, 8090)
    await mesh.apply("open")
    await becomes_served(mesh, "client", f"http://{address}:8080/", "alpha")
    await is_denied(mesh, "other", f"http://{address}:8080/")


CASE = Case(
    name="enforced-at-the-pod",
    feature="access-identity",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Access control is always enforced on the server side of a connection.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
