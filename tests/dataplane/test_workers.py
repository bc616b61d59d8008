"""Several processes serve as one sidecar: one certificate, one config stream, one set of metrics."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dataplane.counts import Readings, add, take
from dataplane.main import compose
from dataplane.settings import settings_from
from dataplane.telemetry import Telemetry
from dataplane.workers.crew import _Member
from dataplane.workers.link import Link
from smi.policy.codec import encode_cluster
from smi.policy.snapshot import Endpoint
from tests.dataplane.config import destination
from tests.dataplane.control.authority import Authority
from tests.dataplane.control.stand_in import StandIn, Stream
from tests.dataplane.sidecar import DEADLINE, Sidecar

TWO = ("-m", "dataplane", "--workers", "2")
KEY = "api.shop:8080"


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[StandIn]:
    stand_in = StandIn(tmp_path, Authority())
    await stand_in.start_identity()
    await stand_in.start_discovery()
    yield stand_in
    await stand_in.stop()


@pytest.fixture
async def sidecar(controller: StandIn, tmp_path: Path) -> AsyncIterator[Sidecar]:
    made = Sidecar(controller, tmp_path)
    await made.start(TWO)
    yield made
    await made.stop()


class Backend:
    """Answers with its name over kept connections; `hold` keeps answers back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections = 0
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        body = self.name.encode()
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked.set()
                await self.go.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
async def backends() -> AsyncIterator[tuple[Backend, Backend]]:
    made = Backend("one"), Backend("two")
    for backend in made:
        await backend.start()
    yield made
    for backend in made:
        await backend.stop()


def resources(backend: Backend) -> dict[str, object]:
    return {
        f"destination/{KEY}": destination("api", {"v1": 1}),
        "cluster/shop/v1:8080": encode_cluster((Endpoint("127.0.0.1", backend.port),)),
    }


async def answer_subscriptions(stream: Stream, backend: Backend) -> None:
    """Play the controller for the first use of KEY."""
    assert (await stream.receive("subscribe"))["keys"] == [KEY]
    stream.update(2, resources(backend))


async def calls(sidecar: Sidecar, number: int) -> list[bytes]:
    """Bodies of so many requests, one after the other, each on a connection of its own."""
    bodies = []
    for _ in range(number):
        status, body = await sidecar.call(KEY)
        assert status == 200, body
        bodies.append(body)
    return bodies


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def eventually(holds: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < DEADLINE, what
        await asyncio.sleep(0.01)


async def metric(sidecar: Sidecar, name: str) -> float:
    """The sum of a family's samples of that name."""
    _, text = await sidecar.get("/metrics?dialects=smi")
    families = text_string_to_metric_families(text.decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def test_both_serve_with_one_certificate_one_stream_and_one_scrape(
    controller: StandIn, sidecar: Sidecar, backends: tuple[Backend, Backend]
) -> None:
    stream = await sidecar.wait_ready()
    assert len(children(sidecar.process.pid)) == 2
    feeding = asyncio.gather(answer_subscriptions(stream, backends[0]))
    assert set(await calls(sidecar, 40)) == {b"one"}
    await feeding
    assert len(controller.requests) == 1, "one certificate"
    assert controller.streams.empty(), "one stream"
    # A worker keeps one connection for requests that come one after the other.
    assert backends[0].connections == 2
    assert await metric(sidecar, "smi_mesh_requests_total") == 40
    assert await metric(sidecar, "smi_mesh_request_duration_seconds_count") == 40
    assert await metric(sidecar, "smi_mesh_pool_idle") == 2
    assert await metric(sidecar, "smi_mesh_workers") == 2
    assert await metric(sidecar, "smi_mesh_config_revision") == 2

    stream.update(3, resources(backends[1]))
    await sidecar.wait_metric("smi_mesh_config_revision 3")
    assert set(await calls(sidecar, 20)) == {b"two"}, "an update reaches every worker"
    assert await metric(sidecar, "smi_mesh_requests_total") == 60


async def test_a_worker_that_dies_is_replaced_and_its_counts_stay(
    controller: StandIn, sidecar: Sidecar, backends: tuple[Backend, Backend]
) -> None:
    stream = await sidecar.wait_ready()
    feeding = asyncio.gather(answer_subscriptions(stream, backends[0]))
    await calls(sidecar, 20)
    await feeding
    assert await metric(sidecar, "smi_mesh_requests_total") == 20
    assert await metric(sidecar, "smi_mesh_split_picks_total") == 20
    before = children(sidecar.process.pid)
    os.kill(before[0], signal.SIGKILL)
    await eventually(lambda: before[0] not in children(sidecar.process.pid), "the kernel has not reaped it")
    # The listeners of the other are open all the while.
    assert (await sidecar.get("/ready"))[0] == 200
    await calls(sidecar, 10)
    await sidecar.wait_metric("smi_mesh_workers 2")
    after = children(sidecar.process.pid)
    assert before[1] in after
    assert len(after) == 2
    connections = backends[0].connections
    await calls(sidecar, 30)
    assert backends[0].connections == connections + 1, "the new one serves as well"
    assert await metric(sidecar, "smi_mesh_requests_total") == 60
    assert await metric(sidecar, "smi_mesh_split_picks_total") == 60
    assert await metric(sidecar, "smi_mesh_worker_restarts_total") == 1
    assert len(controller.requests) == 1, "the new one needs no certificate of its own"


async def test_a_tap_shows_what_every_worker_sees(
    controller: StandIn, sidecar: Sidecar, backends: tuple[Backend, Backend]
) -> None:
    stream = await sidecar.wait_ready()
    feeding = asyncio.gather(answer_subscriptions(stream, backends[0]))
    await calls(sidecar, 1)
    await feeding
    stream.send(type="tap", id="t", filter={"status": "200"}, seconds=60, rate=100)
    stream.update(3, resources(backends[0]))
    await sidecar.wait_metric("smi_mesh_config_revision 3")  # by then every worker has the order
    seen = await tapped(stream, calls(sidecar, 40))
    assert len(seen) == 40
    assert {(one["direction"], one["status"], one["service"]) for one in seen} == {
        ("outbound", 200, "shop/api")
    }
    assert backends[0].connections == 2, "both workers sent some"

    (victim, *_) = children(sidecar.process.pid)
    os.kill(victim, signal.SIGKILL)
    await sidecar.wait_metric('smi_mesh_worker_restarts_total{worker="0"} 1')
    await sidecar.wait_metric("smi_mesh_workers 2")
    assert len(await tapped(stream, calls(sidecar, 40))) == 40, "the new worker has been told"


async def tapped(stream: Stream, traffic: Coroutine[Any, Any, list[bytes]]) -> list[dict[str, Any]]:
    """What the tap shows of some requests, one of which is made for each body."""
    bodies = await traffic
    seen: list[dict[str, Any]] = []
    while len(seen) < len(bodies):
        told = await stream.receive("tapped")
        assert (told["id"], told["dropped"]) == ("t", 0)
        seen += told["requests"]
    return seen


async def test_requests_under_way_in_any_worker_are_finished_when_it_drains(
    sidecar: Sidecar, backends: tuple[Backend, Backend]
) -> None:
    stream = await sidecar.wait_ready()
    feeding = asyncio.gather(answer_subscriptions(stream, backends[0]))
    await calls(sidecar, 1)
    await feeding
    backends[0].go.clear()
    backends[0].asked.clear()
    under_way = asyncio.gather(*(sidecar.call(KEY) for _ in range(16)))
    await eventually(lambda: backends[0].connections >= 16, "not all requests arrived")
    workers = children(sidecar.process.pid)
    sidecar.process.send_signal(signal.SIGTERM)
    assert b"draining" in await sidecar.wait_status("/ready", 503)
    backends[0].go.set()
    assert {(status, body) for status, body in await under_way} == {(200, b"one")}
    assert await sidecar.stop() == 0
    assert not any(alive(worker) for worker in workers)


async def test_workers_that_cannot_listen_are_tried_again(controller: StandIn, tmp_path: Path) -> None:
    sidecar = Sidecar(controller, tmp_path)
    with socket.create_server(("127.0.0.1", sidecar.ports["OUTBOUND"])):
        await sidecar.start(TWO)
        await sidecar.greet()
        assert b"listeners are not open" in await sidecar.wait_status("/ready", 503)
        began = time.monotonic()
        while await metric(sidecar, "smi_mesh_worker_restarts_total") < 3:
            assert time.monotonic() - began < DEADLINE
            await asyncio.sleep(0.05)
        assert f"cannot listen on 127.0.0.1:{sidecar.ports['OUTBOUND']}" in sidecar.stderr.read_text()
    await sidecar.wait_status("/ready", 200)
    assert await sidecar.stop() == 0


async def test_workers_do_not_outlive_the_first_process(sidecar: Sidecar) -> None:
    await sidecar.wait_ready()
    workers = children(sidecar.process.pid)
    sidecar.process.kill()
    await sidecar.process.wait()
    await eventually(lambda: not any(alive(worker) for worker in workers), "a worker lives on")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("arguments", [("--workers", "0"), ("--workers=many",), ("--workers",), ("--no",)])
def test_bad_arguments_end_with_2(controller: StandIn, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dataplane", *arguments],
        env=Sidecar(controller, tmp_path).environ(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "--workers" in done.stderr


# --- what the first process wants for its workers ---------------------------------------------------------


class Told(Link):
    """A link that only notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: object) -> None:
        self.sent.append({"type": kind, **fields})


async def test_a_key_that_did_not_fit_is_asked_for_again(
    controller: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataplane.state.MAX_SUBSCRIPTIONS", 1)
    settings = settings_from(Sidecar(controller, tmp_path).environ() | {"SMI_MESH_WORKERS": "2"})
    proxy = compose(settings)
    crew, state = proxy.crew, proxy.state
    assert crew is not None
    link = Told()
    member = _Member(cast("asyncio.subprocess.Process", None), link)
    crew._members[0] = member
    crew._take(0, member, {"type": "subscribe", "keys": ["a:1"]})
    crew._take(0, member, {"type": "subscribe", "keys": ["b:2"]})
    assert state.subscriptions == ("a:1",)
    crew._take(0, member, {"type": "unsubscribe", "keys": ["a:1"]})
    state.sweep()
    crew.keep_used()
    assert state.subscriptions == ("b:2",)
    assert link.sent == [{"type": "update", "revision": 0, "removed": ["destination/a:1"]}]


# --- counts on their way ----------------------------------------------------------------------------------


def count_something(telemetry: Telemetry) -> None:
    series = telemetry.http_series("inbound", "spiffe://x", "shop/api", "", "shop/web-1", "", "")
    series.observe(200, "", 0.003, "0", 10, 2000)
    series.observe(503, "overload", 0.2)
    series.example((200, "", "0"), "4bf92f3577b34da6a3ce929d0e0e4736", 0.003, 1.0, 2.0)
    telemetry.tcp_open("outbound", "", "shop/db", "").close(5, 7, 0.5, "reset")
    telemetry.denial("no-target", "abc", "shop/api-1", ["shop/t: no"])


def test_what_is_taken_out_there_is_added_here_once() -> None:
    direct, there, here = Telemetry(), Telemetry(), Telemetry()
    for _ in range(3):
        count_something(direct)
        count_something(there)
        add(here, take(there))
    assert here.render() == direct.render()
    assert take(there)["http"] == []
    add(here, take(there))
    assert here.render() == direct.render()


def test_every_count_is_on_its_way() -> None:
    """A counter that is added to these classes must be added to `dataplane.counts`."""
    direct, there, here = Telemetry(), Telemetry(), Telemetry()
    count_something(direct)
    count_something(there)
    add(here, json.loads(json.dumps(take(there))))
    for kind in ("_http", "_tcp"):
        for key, series in getattr(direct, kind).items():
            assert fields_of(getattr(here, kind)[key]) == fields_of(series)
    assert there._tcp.keys() == direct._tcp.keys(), "series stay with who counts"


def fields_of(value: Any) -> Any:
    """The slots of a counter, as deep as they go, without those that are clocks and not counts."""
    if isinstance(value, dict):
        return {key: fields_of(item) for key, item in value.items()}
    if type(value).__module__ != "dataplane.telemetry":
        return value
    counts = set(value.__slots__) - {"exemplar_due", "example_due"}
    return {name: fields_of(getattr(value, name)) for name in counts}


def test_gauges_are_summed_and_those_that_count_never_fall() -> None:
    here = Telemetry()
    here.gauge("memory", "", (), lambda: [((), 5)])
    readings = Readings(here)
    for process in (0, 1):
        there = Telemetry()
        there.gauge("memory", "", (), lambda: [((), 10)])
        there.gauge("turns", "", ("split",), lambda: [(("s",), 3)], "counter")
        readings.note(process, take(there))

    def shown() -> list[str]:
        return [line for line in here.render().decode().splitlines() if line.startswith(("memory", "turns"))]

    assert shown() == ["memory 25.0", 'turns{split="s"} 6.0']
    readings.forget(0)
    assert shown() == ["memory 15.0", 'turns{split="s"} 6.0']
