"""The TrafficMetrics of a pod: what it is about, when, for how long, and the five numbers."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh, Object
from conformance.expect import expect

BASE = "/apis/metrics.smi-spec.io/v1alpha1"
NUMBERS = {
    "p99_response_latency",
    "p90_response_latency",
    "p50_response_latency",
    "success_count",
    "failure_count",
}


async def run(mesh: Mesh) -> None:
    answers = await mesh.call("client", "http://alpha:8080/", count=20)
    pod = answers.results[0].seen["pod"]

    async def metered() -> Object:
        status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/pods/{pod}")
        expect(status == 200, f"{status}: {answer}")
        names = {entry["name"] for entry in answer.get("metrics", ())}
        expect(names >= NUMBERS, f"numbers: {sorted(names)}")
        return dict(answer)

    found = await mesh.converge(metered, f"TrafficMetrics of pod {pod}", seconds=45)
    expect(found["kind"] == "TrafficMetrics", f"kind: {found['kind']}")
    about = {key: found["resource"].get(key) for key in ("kind", "namespace", "name")}
    expect(about == {"kind": "Pod", "namespace": mesh.namespace, "name": pod}, f"resource: {about}")
    expect({"timestamp", "window", "edge"} <= found.keys(), f"fields: {sorted(found)}")
    edge = found["edge"]
    received = {"direction": "from", "side": "server"}.items() <= edge.items() and not edge.get("resource")
    expect(received, f"edge: {edge}; expected all that the pod received, from an empty resource")
    units = {entry["name"]: entry.get("unit") for entry in found["metrics"]}
    expect(all(units[name] == "seconds" for name in NUMBERS if "latency" in name), f"units: {units}")


CASE = Case(
    name="metrics-of-a-pod",
    feature="metrics-resources",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "TrafficMetrics",
            "TrafficMetrics has a resource, an edge, timestamp, window and latency percentiles in "
            "seconds with counts of successes and failures.",
        ),
    ),
    rules=("S30",),
    seconds=90.0,
)
