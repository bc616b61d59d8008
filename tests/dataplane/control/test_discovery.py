"""The config stream against a stand-in over real mTLS: its conversations, its ends, its returns."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.control import discovery as discovery_module
from dataplane.control.backoff import Backoff
from dataplane.control.discovery import Discovery
from dataplane.control.identity import Identity
from dataplane.settings import Settings
from dataplane.state import State
from dataplane.tasks import Tasks
from tests.dataplane.config import cluster, destination, inbound
from tests.dataplane.control.authority import Authority
from tests.dataplane.control.stand_in import POD_URI, StandIn, Stream, key_made_here
from tests.dataplane.waiting import until

API = "10.96.0.5:8080"


class Proxy:
    """The control side of a proxy: state, identity, config stream."""

    def __init__(self, settings: Settings, ping_seconds: float = 5.0, dead_seconds: float = 15.0) -> None:
        self.settings = settings
        self.state = State(phase=0)
        self.identity = Identity(settings, time.time, lambda: 0.0, key_made_here)
        self.discovery = Discovery(
            settings, self.state, self.identity, "1.2.3", lambda: 0.0, ping_seconds, dead_seconds
        )
        self.tasks = Tasks()

    async def start(self) -> None:
        if not self.identity.renewals:
            await self.identity.obtain()
        self.tasks.start("config stream", self.discovery.run())

    async def greeted(self, controller: StandIn, revision: int = 1) -> Stream:
        """The stream of a proxy that has its first config."""
        await self.start()
        stream = await controller.next_stream()
        await stream.receive("hello")
        stream.update(revision, {"inbound": inbound()}, full=True)
        assert (await stream.receive())["type"] == "ack"
        return stream


@pytest.fixture
async def proxy(settings: Settings) -> AsyncIterator[Proxy]:
    made = Proxy(settings)
    yield made
    await made.tasks.cancel()


async def test_hello_full_update_ack(proxy: Proxy, controller: StandIn) -> None:
    await proxy.start()
    stream = await controller.next_stream()
    assert ("URI", POD_URI) in stream.certificate["subjectAltName"]
    assert ("DNS", "web-1.shop.pod.smi-mesh.internal") in stream.certificate["subjectAltName"]
    assert await stream.receive() == {
        "type": "hello",
        "protocol": 1,
        "pod": "shop/web-1",
        "version": "1.2.3",
        "subscriptions": [],
    }
    stream.update(12, {"inbound": inbound()}, full=True)
    assert await stream.receive() == {"type": "ack", "revision": 12}
    assert proxy.state.connected
    assert proxy.state.revision == 12


async def test_first_use_subscribes_and_an_idle_key_is_unsubscribed(
    proxy: Proxy, controller: StandIn
) -> None:
    stream = await proxy.greeted(controller)
    waiting = proxy.tasks.start("use", proxy.state.require(API))
    assert await stream.receive() == {"type": "subscribe", "keys": [API]}
    stream.update(1, {f"destination/{API}": destination("api"), "cluster/shop/api:8080": cluster("10.0.0.1")})
    assert (await waiting).destination.service == "shop/api"
    assert await stream.receive() == {"type": "ack", "revision": 1}
    while not proxy.state.sweep():
        pass
    assert await stream.receive() == {"type": "unsubscribe", "keys": [API]}


async def test_a_mere_revision_is_acknowledged(proxy: Proxy, controller: StandIn) -> None:
    stream = await proxy.greeted(controller)
    stream.update(2, {})
    assert await stream.receive() == {"type": "ack", "revision": 2}


async def test_a_bad_update_is_refused_and_the_last_good_config_stays(
    proxy: Proxy, controller: StandIn
) -> None:
    stream = await proxy.greeted(controller)
    policy = proxy.state.inbound
    stream.update(2, {"inbound": {"pod": 5}})
    refusal = await stream.receive()
    assert (refusal["type"], refusal["revision"]) == ("nack", 2)
    assert refusal["error"]
    assert proxy.state.inbound is policy
    assert proxy.state.revision == 1
    assert proxy.discovery.refused == 1

    # A delta would build on what was refused: the proxy asks for all of it on a new stream.
    stream.update(3, {"cluster/shop/api:8080": cluster()})
    await stream.wait_closed()
    stream = await controller.next_stream()
    await stream.receive("hello")
    stream.update(3, {"inbound": inbound("shop/t")}, full=True)
    assert await stream.receive() == {"type": "ack", "revision": 3}


async def test_a_full_update_heals_a_refusal_on_the_same_stream(proxy: Proxy, controller: StandIn) -> None:
    stream = await proxy.greeted(controller)
    stream.update(2, {"inbound": []})
    assert (await stream.receive())["type"] == "nack"
    stream.update(3, {"inbound": inbound()}, full=True)
    assert await stream.receive() == {"type": "ack", "revision": 3}
    stream.update(4, {})
    assert await stream.receive() == {"type": "ack", "revision": 4}


async def test_a_lost_controller_costs_no_config_and_is_found_again(
    proxy: Proxy, controller: StandIn, tmp_path: Path
) -> None:
    stream = await proxy.greeted(controller)
    waiting = proxy.tasks.start("use", proxy.state.require(API))
    await stream.receive("subscribe")
    stream.update(1, {f"destination/{API}": destination("api")})
    target = await waiting
    await controller.stop()
    await until(lambda: not proxy.state.connected)
    assert proxy.state.lookup(API) is target
    assert proxy.state.inbound is not None

    later = proxy.tasks.start("use of another", proxy.state.require("10.96.0.6:80", seconds=10))
    restarted = StandIn(tmp_path, controller.authority)
    await restarted.start_discovery(controller.discovery_port)
    stream = await restarted.next_stream()
    hello = await stream.receive("hello")
    assert sorted(hello["subscriptions"]) == [API, "10.96.0.6:80"]
    resources = {
        "inbound": inbound(),
        f"destination/{API}": destination("api"),
        "destination/10.96.0.6:80": {},
    }
    stream.update(1, resources, full=True)
    assert (await later).destination.cluster is None
    assert proxy.state.connected
    await restarted.stop()


async def test_each_failed_attempt_waits_longer_until_one_succeeds(
    settings: Settings, controller: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Backoff] = []
    waited: list[float] = []

    class Recorded(Backoff):
        def __init__(self, first: float, last: float, _chance: object) -> None:
            super().__init__(first / 20, last / 20, lambda: 1.0)
            made.append(self)

        def next(self) -> float:
            waited.append(super().next())
            return waited[-1]

    proxy = Proxy(settings)
    await proxy.identity.obtain()
    monkeypatch.setattr(discovery_module, "Backoff", Recorded)
    controller.on_stream = lambda stream: stream.close()
    await proxy.start()
    await until(lambda: len(waited) >= 4)
    assert all(later == pytest.approx(2 * sooner) for sooner, later in pairwise(waited[:4]))
    controller.on_stream = controller.streams.put_nowait
    stream = await controller.next_stream()
    stream.update(1, {"inbound": inbound()}, full=True)
    await until(lambda: proxy.state.connected and proxy.state.revision == 1)
    count = len(waited)
    stream.close()
    await until(lambda: len(waited) > count)
    assert waited[count] == pytest.approx(waited[0])
    await proxy.tasks.cancel()


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 40))
def test_backoff_stays_within_its_bounds(chance: float, attempts: int) -> None:
    backoff = Backoff(0.1, 5.0, lambda: chance)
    for attempt in range(1, attempts + 1):
        assert 0.1 <= backoff.next() <= min(5.0, 0.1 * 2**attempt)
    backoff.reset()
    assert backoff.next() <= 0.2


async def test_pings_keep_a_quiet_stream_and_silence_ends_it(settings: Settings, controller: StandIn) -> None:
    proxy = Proxy(settings, ping_seconds=0.02, dead_seconds=0.3)
    stream = await proxy.greeted(controller)
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        await stream.receive("ping")
        stream.send(type="pong")
    assert proxy.discovery.streams == 1
    again = await controller.next_stream()  # nothing was sent any more
    assert again is not stream
    await proxy.tasks.cancel()


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        b"[" * 200_000 + b"\n",
        b'{"type":"error","message":"who are you?"}\n',
        b"\xff\n",
    ],
)
async def test_a_bad_line_ends_the_stream_but_not_the_proxy(
    proxy: Proxy, controller: StandIn, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await proxy.greeted(controller)
    stream.send_raw(line)
    await stream.wait_closed()
    await controller.next_stream()
    assert proxy.state.revision == 1
    assert "config stream: " in caplog.text
    assert len(proxy.tasks) == 1


async def test_an_endless_line_is_bounded(
    proxy: Proxy, controller: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(discovery_module, "MAX_LINE", 10_000)
    stream = await proxy.greeted(controller)
    stream.send_raw(b'{"type":"' + b"x" * 100_000)
    await controller.next_stream()
    assert "longer than" in caplog.text


async def test_messages_of_a_newer_controller_are_ignored(proxy: Proxy, controller: StandIn) -> None:
    stream = await proxy.greeted(controller)
    stream.send(type="advice", text="x")
    stream.update(2, {"quota/a": {"x": 1}})
    assert await stream.receive() == {"type": "ack", "revision": 2}


async def test_nobody_but_the_controller_is_told_anything(
    settings: Settings, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    impostor = StandIn(tmp_path, authority)
    impostor.uri = POD_URI
    await impostor.start_discovery()
    proxy = Proxy(dataclasses.replace(settings, discovery_port=impostor.discovery_port))
    await proxy.start()
    stream = await impostor.next_stream()
    with pytest.raises((EOFError, ConnectionError)):
        await stream.receive()
    assert f"the peer is {POD_URI}" in caplog.text
    await proxy.tasks.cancel()
    await impostor.stop()


async def test_the_stream_lives_through_a_renewal_and_the_next_one_uses_the_new_certificate(
    proxy: Proxy, controller: StandIn
) -> None:
    stream = await proxy.greeted(controller)
    first = stream.certificate["serialNumber"]
    await proxy.identity.obtain()
    stream.update(2, {})
    assert await stream.receive() == {"type": "ack", "revision": 2}
    stream.close()
    assert (await controller.next_stream()).certificate["serialNumber"] != first


async def test_many_subscriptions_are_told_in_lines_of_bounded_length(
    settings: Settings, controller: StandIn
) -> None:
    proxy = Proxy(settings)
    keys = [f"{number:0>60}.example:80" for number in range(2500)]
    waiting = [proxy.tasks.start(key, _give_up_waiting(proxy.state, key)) for key in keys]
    await asyncio.gather(*waiting)
    await proxy.start()
    stream = await controller.next_stream()
    told = list((await stream.receive("hello"))["subscriptions"])
    while len(told) < len(keys):
        told += (await stream.receive("subscribe"))["keys"]
    assert told == keys
    await proxy.tasks.cancel()


async def _give_up_waiting(state: State, key: str) -> None:
    with pytest.raises(Exception, match="did not say"):
        await state.require(key, seconds=0.0)
