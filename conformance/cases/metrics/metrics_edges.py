"""The edges of a pod: the caller sees the server at its own side, the server the caller at its own."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh, Object
from conformance.expect import expect

BASE = "/apis/metrics.smi-spec.io/v1alpha1"


async def edge(mesh: Mesh, pod: str, wanted: tuple[str, str, str]) -> Object:
    """The edge (direction, side, other pod) among those of `pod`."""
    status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/pods/{pod}/edges")
    expect(status == 200, f"{status}: {answer}")
    seen = {}
    for item in answer["items"]:
        one = item["edge"]
        seen[one["direction"], one["side"], one["resource"].get("name", "")] = item
    expect(wanted in seen, f"edges of {pod}: {sorted(seen)}")
    return dict(seen[wanted])


async def run(mesh: Mesh) -> None:
    answers = await mesh.call("client", "http://alpha:8080/", count=20)
    server = answers.results[0].seen["pod"]

    async def towards() -> Object:
        status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/pods")
        expect(status == 200, f"{status}: {answer}")
        callers = [item["resource"]["name"] for item in answer["items"]]
        caller = next((name for name in callers if name.startswith("client-")), None)
        expect(caller is not None, f"pods with metrics: {callers}")
        return await edge(mesh, f"{caller}", ("to", "client", server))

    async def back() -> Object:
        return await edge(mesh, server, ("from", "server", caller))

    found = await mesh.converge(towards, "the edge from client to alpha, seen by client", seconds=45)
    caller = found["resource"]["name"]
    await mesh.converge(back, "the same edge, seen by alpha", seconds=45)


CASE = Case(
    name="metrics-edges",
    feature="metrics-edges",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "Edge",
            "An edge has a direction, a side that observed it, and the resource at its other end.",
        ),
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "TrafficMetricsList",
            "The edges of a resource are listed as its sub-resource.",
        ),
    ),
    rules=("S30",),
    seconds=90.0,
)
