"""The Prometheus beside a cluster, as a process: it finds pods by annotation and outlives a crash."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from localmesh.apiserver.server import ApiServer, ApiSettings, start
from localmesh.node.process import CLUSTER_MARK, find_marked, kill_marked
from localmesh.prometheus import Prometheus, Wanted
from tests.localmesh.test_prometheus import pod

pytestmark = pytest.mark.e2e
CLUSTER = "test-prometheus"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    running = await start(ApiSettings(tmp_path / "api"))
    yield running
    await running.stop()


@pytest.fixture
async def prometheus(server: ApiServer, tmp_path: Path) -> AsyncIterator[Prometheus]:
    assert not Prometheus.missing(), "`make system` installs it"
    made = Prometheus(server.api, tmp_path, CLUSTER)
    await made.start(Wanted(0.5, (), ("example.org/port",)))
    yield made
    await made.stop()
    assert not find_marked({CLUSTER_MARK: CLUSTER})


@pytest.fixture
async def metrics() -> AsyncIterator[int]:
    """A port that answers every scrape."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        body = f'asked{{path="{path}"}} 1\n'.encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()


async def ask(prometheus: Prometheus, query: str) -> list[dict[str, str]]:
    """Labels of everything a query finds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(prometheus.url.rpartition(":")[2]))
    writer.write(f"GET /api/v1/query?query={quote(query)} HTTP/1.0\r\nhost: x\r\n\r\n".encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return [found["metric"] for found in json.loads(body)["data"]["result"]]


async def wait(prometheus: Prometheus, query: str, count: int) -> list[dict[str, str]]:
    async with asyncio.timeout(20):
        while True:
            try:
                found = await ask(prometheus, query)
            except (OSError, ValueError):
                found = []
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)


async def test_pods_are_found_by_annotation_and_it_comes_back_after_a_crash(
    server: ApiServer, prometheus: Prometheus, metrics: int
) -> None:
    port = str(metrics)
    others = pod("both", scrape="true", port=port, path="/own")
    others["metadata"]["annotations"]["example.org/port"] = port
    pods = (
        pod("plain", scrape="true", port=port),
        others,
        pod("silent", port=port),
        pod("no", scrape="false", port=port),
    )
    for one in pods:
        await server.api.create("pods", "default", one)
        status = {"status": one["status"]}
        await server.api.patch("pods", "default", one["metadata"]["name"], status, "status")
    found = await wait(prometheus, "asked", 3)
    assert sorted((one["pod"], one["path"], one["namespace"]) for one in found) == [
        ("both", "/metrics", "default"),
        ("both", "/own", "default"),
        ("plain", "/metrics", "default"),
    ]
    assert kill_marked({CLUSTER_MARK: CLUSTER}) == 1
    # What it knew before is in its log; what it finds now has a time after the crash.
    await wait(prometheus, f"timestamp(asked) > {time.time()}", 3)
