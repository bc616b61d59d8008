"""A TrafficSplit has one item per backend, with the root, the backend and its weight."""

from __future__ import annotations

from collections.abc import Mapping

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh, Object
from conformance.expect import expect
from conformance.observe import becomes_served

BASE = "/apis/metrics.smi-spec.io/v1alpha1"


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", count=40)

    async def listed() -> Mapping[str, Object]:
        status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/trafficsplits")
        expect(status == 200, f"{status}: {answer}")
        items = [item for item in answer["items"] if item["resource"]["name"] == "web-split"]
        backends = {item["backend"]["name"]: item["backend"] for item in items}
        expect(backends.keys() == {"alpha", "beta"}, f"backends: {backends}")
        return backends

    found = await mesh.converge(listed, "TrafficMetrics of TrafficSplit web-split", seconds=45)
    expect({backend["apex"] for backend in found.values()} == {"web"}, f"apexes: {found}")
    weights = {name: backend["weight"] for name, backend in found.items()}
    expect(weights == {"alpha": 90, "beta": 10}, f"weights: {weights}")


CASE = Case(
    name="metrics-of-a-split",
    feature="metrics-splits",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "Traffic Splits",
            "The metrics of a split are one object per backend, with a field that names apex, backend "
            "and weight.",
        ),
    ),
    rules=("S30",),
    needs=("split-weights",),
    seconds=90.0,
)
