"""A kind of resource can be listed: one item per resource of the namespace."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh, Object
from conformance.expect import expect

BASE = "/apis/metrics.smi-spec.io/v1alpha1"


async def run(mesh: Mesh) -> None:
    await mesh.call("client", "http://alpha:8080/", count=20)
    await mesh.call("client", "http://beta:8080/", count=20)

    async def listed() -> Object:
        status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/deployments")
        expect(status == 200, f"{status}: {answer}")
        names = {item["resource"]["name"] for item in answer["items"]}
        expect({"alpha", "beta"} <= names, f"items: {sorted(names)}")
        return dict(answer)

    found = await mesh.converge(listed, "TrafficMetrics of the deployments", seconds=45)
    expect(found["kind"] == "TrafficMetricsList", f"kind: {found['kind']}")
    expect(found["resource"].get("kind") == "Deployment", f"resource: {found['resource']}")
    strangers = [item for item in found["items"] if item["resource"].get("namespace") != mesh.namespace]
    expect(not strangers, f"items of other namespaces: {strangers}")


CASE = Case(
    name="metrics-list",
    feature="metrics-resources",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "TrafficMetricsList",
            "A request for a kind gives a TrafficMetricsList whose resource names the kind.",
        ),
    ),
    rules=("S30",),
    seconds=90.0,
)
