"""The API says which resources have metrics: all eleven of the specification, with get and list."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect

RESOURCES = (
    "namespaces",
    "nodes",
    "pods",
    "replicationcontrollers",
    "services",
    "daemonsets",
    "deployments",
    "replicasets",
    "statefulsets",
    "jobs",
    "trafficsplits",
)


async def run(mesh: Mesh) -> None:
    status, answer = await mesh.raw("/apis/metrics.smi-spec.io/v1alpha1")
    expect(status == 200, f"the API group is not served: {status} {answer}")
    expect(answer["kind"] == "APIResourceList", f"it is a {answer['kind']}")
    resources = {entry["name"]: entry for entry in answer["resources"]}
    for name in RESOURCES:
        entry = resources.get(name)
        expect(entry is not None, f"{name} is missing; there are {sorted(resources)}")
        if entry is not None:
            expect(entry["kind"] == "TrafficMetrics", f"{name} is of kind {entry['kind']}")
            expect({"get", "list"} <= set(entry["verbs"]), f"{name} has the verbs {entry['verbs']}")
            expect(entry["namespaced"] == (name not in ("namespaces", "nodes")), f"{name}: {entry}")


CASE = Case(
    name="api-resource-list",
    feature="metrics-resources",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "Kubernetes API",
            "The API lists its resources, eleven of them, each of kind TrafficMetrics with get and list.",
        ),
    ),
    rules=("S30",),
    seconds=90.0,
)
