"""TrafficMetrics from a Prometheus: what is asked, how the answer is read, and what if it is away."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from controller.metricsapi import aggregate
from controller.metricsapi.aggregate import Moment
from controller.metricsapi.directory import Directory
from controller.metricsapi.promql import QUERY, read_vector
from controller.metricsapi.resources import RESOURCES
from controller.metricsapi.samples import SamplesError
from controller.metricsapi.sources import FRESH_SECONDS, PrometheusSource
from dataplane.dialects.istio import Istio
from dataplane.page import Page
from dataplane.telemetry import Own, Telemetry
from tests.controller.metricsapi.build import deployed, name, pod, split, world

WEB, API, DB = "shop/web-1-a", "shop/api-1-a", "shop/db-0"
SHOP = Directory.of(
    world(
        deployed(WEB, "web"),
        deployed(API, "api"),
        pod(DB, "StatefulSet/db", ("StatefulSet", "db")),
        split("shop/canary", "api", api_v1=90, api_v2=10),
    )
)


def labelled(reporter: str, le: str, **more: str) -> dict[str, str]:
    own, far = ("destination", "source") if reporter == "destination" else ("source", "destination")
    return {
        "namespace": "shop",
        "pod": API.partition("/")[2],
        "reporter": reporter,
        f"{own}_workload": "api",
        f"{own}_workload_namespace": "shop",
        f"{far}_workload": "web" if reporter == "destination" else "db",
        f"{far}_workload_namespace": "shop",
        "destination_service_name": "api-v1",
        "destination_service_namespace": "shop",
        "response_code": "200",
        "le": le,
        **more,
    }


def vector(*samples: tuple[dict[str, str], float]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [1.0, str(value)]} for labels, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


ANSWER = vector(
    (labelled("destination", "5"), 7.6),
    (labelled("destination", "10"), 10.2),
    (labelled("destination", "+Inf"), 10.2),
    (labelled("destination", "+Inf", response_code="503"), 2.0),
    (labelled("destination", "+Inf", grpc_response_status="14"), 1.0),
    (labelled("source", "+Inf"), 4.0),
)


def test_workloads_and_splits_from_istios_metrics() -> None:
    (samples,) = read_vector(ANSWER)
    moment = Moment(0, 60)
    item = aggregate.summary(SHOP, RESOURCES["deployments"], name("shop/api"), [samples], moment)
    values = {one.name: one.value for one in item.metrics}
    assert (values["success_count"], values["failure_count"], item.window) == ("10", "3", "60s")
    found = aggregate.edges(SHOP, RESOURCES["deployments"], name("shop/api"), [samples], moment)
    others = [(one.edge.direction.value, one.edge.resource and one.edge.resource.name) for one in found]
    assert others == [("from", "web"), ("to", "db")]
    assert [one.edge.resource.kind for one in found if one.edge.resource] == ["Deployment", "StatefulSet"]
    wanted = frozenset({name("shop/canary")})
    splits = aggregate.split_summaries(SHOP, RESOURCES["trafficsplits"], [samples], moment, wanted)
    assert [one.metrics[-2].value for one in splits] == ["4", "0"]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"data": {"resultType": "matrix", "result": []}},
        {"data": {"resultType": "vector", "result": [{}]}},
        {"data": {"resultType": "vector", "result": [{"metric": {"le": "x"}, "value": [0, "1"]}]}},
        {"data": {"resultType": "vector", "result": [{"metric": {"le": "1"}, "value": [0, "NaN"]}]}},
    ],
)
def test_what_prometheus_must_not_answer(document: Any) -> None:
    with pytest.raises(SamplesError):
        read_vector(document)


@asynccontextmanager
async def serving(handle: Any) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_one_query_serves_all_of_a_second_and_being_away_is_down() -> None:
    asked: list[str] = []
    status = 200

    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append((await request.post())["query"])  # type: ignore[arg-type]  # text of a form
        return web.json_response(ANSWER, status=status)

    now = 0.0
    pods = [SHOP.pods[name(one)] for one in (WEB, API)]
    async with serving(handle) as url:
        source = PrometheusSource(url + "/", lambda: now)
        try:
            first, second = await asyncio.gather(source.gather(pods), source.gather(pods[:1]))
            assert [one.pod for one in first.samples] == [name(API)]
            assert (second.samples, second.missing, second.down) == ((), (), False)
            assert asked == [QUERY]
            now, status = FRESH_SECONDS, 500
            assert (await source.gather(pods)).down
        finally:
            await source.close()


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
async def test_a_real_prometheus_understands_the_query(tmp_path: Path) -> None:
    telemetry = Telemetry()
    series = telemetry.http_series("inbound", "", "shop/api", "", WEB, "Deployment/web")

    async def scrape(_: web.BaseRequest) -> web.Response:
        series.observe(200, "", 0.004)
        series.observe(503, "", 0.004)
        page = Page()
        for _step in Istio("cluster.local").write(page, telemetry, Own(API, "Deployment/api", "")):
            pass
        return web.Response(body=page.bytes(), headers={"Content-Type": "text/plain; version=0.0.4"})

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with serving(scrape) as url:
        labels = {"namespace": "shop", "pod": API.partition("/")[2]}
        target = {"targets": [url.removeprefix("http://")], "labels": labels}
        job = {"job_name": "pods", "scrape_interval": "200ms", "scrape_timeout": "200ms"}
        config = {"scrape_configs": [job | {"static_configs": [target]}]}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        source = PrometheusSource(f"http://127.0.0.1:{port}", time.monotonic)
        try:
            async with asyncio.timeout(40):
                while True:
                    gathered = await source.gather([SHOP.pods[name(API)]])
                    if gathered.samples:
                        break
                    await asyncio.sleep(0.1)
        finally:
            await source.close()
            process.terminate()
            await process.wait()
    rows = gathered.samples[0].rows
    assert {row.peer.workload.name for row in rows} == {"web"}
    good, bad = sum(row.tally.success for row in rows), sum(row.tally.failure for row in rows)
    assert good == bad > 0
    assert all(1 < row.tally.quantile(Fraction(1, 2)) <= 5 for row in rows)
