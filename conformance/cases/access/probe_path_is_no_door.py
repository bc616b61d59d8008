"""A caller in the mesh needs a TrafficTarget for the path of a probe like for any other."""

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

    await becomes_denied(mesh, "client", "http://probed:8080/healthy")
    await is_denied(mesh, "outsider", "http://probed:8080/healthy", method="POST")
    await is_denied(mesh, "outsider", "http://probed:8080/healthy/../admin")
    await is_denied(mesh, "outsider", "http://probed:8080/healthy/more")
    await mesh.apply("open")
    await becomes_served(mesh, "client", "http://probed:8080/healthy", "probed")


CASE = Case(
    name="probe-path-is-no-door",
    feature="access-probes",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R10", "S26"),
    access="closed",
)
