"""The probes of the kubelet reach a pod that nothing else may call."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import DriverError, Mesh, Object
from conformance.expect import ExpectationError
from conformance.observe import becomes_denied, becomes_served, is_denied

PROBED: Object = {
    "readinessProbe": {"httpGet": {"path": "/healthy?from=kubelet", "port": 8080}, "periodSeconds": 1},
}


async def run(mesh: Mesh) -> None:
    try:
        await mesh.deploy("probed", container=PROBED, ports=[("http", 8080)])
    except DriverError as error:
        raise ExpectationError(f"a pod whose probes pass the mesh did not become ready: {error}") from error

    await becomes_denied(mesh, "client", "http://probed:8080/")
    await is_denied(mesh, "outsider", "http://probed:8080/")
    await mesh.apply("open")
    await becomes_served(mesh, "client", "http://probed:8080/", "probed")


CASE = Case(
    name="probes-pass",
    feature="access-probes",
    level=Level.EXTENDED,
    run=run,
    rules=("S26",),
    access="closed",
)
