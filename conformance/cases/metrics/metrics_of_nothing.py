"""A resource that does not exist is not found; one without traffic is no error."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect

BASE = "/apis/metrics.smi-spec.io/v1alpha1"


async def run(mesh: Mesh) -> None:
    status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/pods/nobody-0")
    expect(status == 404 and answer["reason"] == "NotFound", f"a pod that does not exist: {status} {answer}")
    status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/jobs")
    expect(status == 200 and answer["items"] == [], f"a kind of which there is nothing: {status} {answer}")
    status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/spaceships")
    expect(status == 404, f"a kind that the API does not have: {status} {answer}")


CASE = Case(
    name="metrics-of-nothing",
    feature="metrics-errors",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S30",),
    seconds=90.0,
)
