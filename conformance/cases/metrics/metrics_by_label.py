"""A label selector decides which items a list has; it does not change their numbers."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect

BASE = "/apis/metrics.smi-spec.io/v1alpha1"


async def run(mesh: Mesh) -> None:
    await mesh.call("client", "http://alpha:8080/", count=20)
    await mesh.call("client", "http://beta:8080/", count=20)

    async def selected() -> None:
        path = f"{BASE}/namespaces/{mesh.namespace}/pods"
        status, answer = await mesh.raw(path, {"labelSelector": "app=alpha"})
        expect(status == 200, f"{status}: {answer}")
        names = [item["resource"]["name"] for item in answer["items"]]
        expect(names and all(name.startswith("alpha-") for name in names), f"items of app=alpha: {names}")

    await mesh.converge(selected, "TrafficMetrics of the pods of alpha", seconds=45)


CASE = Case(
    name="metrics-by-label",
    feature="metrics-resources",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "TrafficMetricsList",
            "A label selector filters the items of a list, not the metrics in them.",
        ),
    ),
    rules=("S30",),
    seconds=90.0,
)
