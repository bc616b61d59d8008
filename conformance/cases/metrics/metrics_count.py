"""Successes and failures are counted as they happened, and the percentiles are in order."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served

BASE = "/apis/metrics.smi-spec.io/v1alpha1"
SCALES = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "k": Fraction(1000)}


async def numbers(mesh: Mesh) -> Mapping[str, Fraction]:
    """The numbers of the Deployment `meter`; quantities as fractions, 0 where there are none."""
    status, answer = await mesh.raw(f"{BASE}/namespaces/{mesh.namespace}/deployments/meter")
    expect(status == 200, f"{status}: {answer}")
    found = {name: Fraction(0) for name in ("success_count", "failure_count")}
    for entry in answer["metrics"]:
        text = str(entry["value"])
        scale = SCALES.get(text[-1])
        found[entry["name"]] = Fraction(text[:-1]) * scale if scale else Fraction(text)
    return found


async def run(mesh: Mesh) -> None:
    await mesh.deploy("meter", ports=[("http", 8080)])
    await becomes_served(mesh, "client", "http://meter:8080/", "meter")

    async def caught_up() -> Mapping[str, Fraction]:
        now, reached = await numbers(mesh), await mesh.reached("meter")
        counted = now["success_count"] + now["failure_count"]
        expect(counted == reached, f"{counted} requests are counted, {reached} reached the application")
        return now

    before = await mesh.converge(caught_up, "the requests up to now in the metrics of meter", seconds=30)
    await mesh.call("client", "http://meter:8080/?delay=0.02", count=30, concurrency=3)
    await mesh.call("client", "http://meter:8080/?status=500", count=10)

    async def counted() -> Mapping[str, Fraction]:
        now = await numbers(mesh)
        good, bad = (now[name] - before[name] for name in ("success_count", "failure_count"))
        expect(good == 30 and bad == 10, f"30 successes and 10 failures are counted as {good} and {bad}")
        return now

    now = await mesh.converge(counted, "30 successes and 10 failures of deployment meter", seconds=30)
    quantiles = [now[f"p{share}_response_latency"] for share in (50, 90, 99)]
    expect(quantiles == sorted(quantiles), f"p50, p90, p99: {quantiles}")
    expect(Fraction(5, 1000) < quantiles[2] < 5, f"p99 of calls that take 20 ms is {quantiles[2]} s")


CASE = Case(
    name="metrics-count",
    feature="metrics-values",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-metrics",
            "v1alpha1",
            "TrafficMetrics",
            "success_count, failure_count and the latency percentiles are those of the requests in "
            "the window.",
        ),
    ),
    rules=("S30",),
    seconds=90.0,
)
