"""Connections that are kept: which of them may carry another request, and for how long they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from dataplane.serve import pool, pressure
from dataplane.serve.connecting import Line
from dataplane.serve.http2_client import Trunk
from dataplane.serve.http_client import Upstream
from dataplane.serve.limits import Limits
from dataplane.serve.pool import ConnectFailed, Lane
from dataplane.serve.pressure import Pressure
from dataplane.serve.registry import Registry
from dataplane.tasks import Tasks
from tests.dataplane.serve.fakes import Wire
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, QUICK, Mesh, next_address, two_hops
from tests.dataplane.waiting import until


class Kept:
    """A lane whose connections the test has in hand."""

    def __init__(self, size: int = 9) -> None:
        self.wires: list[Wire] = []
        self.generation = object()
        self.stillborn = False
        registry = Registry(asyncio.get_running_loop(), 60.0)
        registry.stop()

        async def opener(make: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
            wire = Wire()
            self.wires.append(wire)
            made = cast("asyncio.Transport", wire)
            make().connection_made(made)
            wire.closing = self.stillborn
            return made

        trunk = Trunk(opener, lambda: self.generation, registry, mesh=True)
        self.lane = Lane(opener, lambda: self.generation, registry, 10.0, size, trunk, Line(9, 1.0))

    async def idle(self) -> Upstream:
        upstream = await self.lane.open()
        self.lane.give_back(upstream)
        return upstream


async def test_a_connection_from_before_a_rotation_is_closed_and_not_used() -> None:
    kept = Kept()
    await kept.idle()
    kept.generation = object()
    assert kept.lane.take() is None
    assert kept.wires[0].closing


async def test_a_connection_that_is_closing_is_not_used() -> None:
    kept = Kept()
    first, second = await kept.lane.open(), await kept.lane.open()
    kept.lane.give_back(first)
    kept.lane.give_back(second)
    kept.wires[1].closing = True
    assert kept.lane.take() is first
    assert kept.lane.take() is None


async def test_a_connection_that_was_paused_for_a_slow_client_is_read_again() -> None:
    """Or its end would go unnoticed, and the next answer on it as well."""
    kept = Kept()
    upstream = await kept.lane.open()
    upstream.pause_reading()
    kept.lane.give_back(upstream)
    assert kept.wires[0].reading
    assert not upstream.paused


async def test_only_so_many_are_kept() -> None:
    kept = Kept(size=1)
    first, second = await kept.lane.open(), await kept.lane.open()
    kept.lane.give_back(first)
    kept.lane.give_back(second)
    assert [wire.closing for wire in kept.wires] == [False, True]


async def test_a_connection_that_ended_before_its_exchange_began_is_a_failure_at_once() -> None:
    kept = Kept()
    kept.stillborn = True
    with pytest.raises(ConnectFailed):
        await kept.lane.open()
    assert kept.lane.opened == 0


async def test_the_app_closes_later_than_we_do(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    [to_app] = api.running._app._lanes.values()
    [to_peer] = web.running._peers._lanes.values()
    assert (to_app.idle_seconds, to_peer.idle_seconds) == (QUICK.app_idle, QUICK.pool_idle)


async def test_lanes_to_endpoints_that_are_gone_do_not_pile_up(
    net: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_LANES", 3)
    net.limits = replace(QUICK, pool_idle=0.01, hold=0.0)
    web, api = await two_hops(net, Echo())
    [alive] = web.state.cluster("shop/api:8080")
    client = await net.client(web.outbound)
    for _ in range(5):
        web.reach(API, [replace(alive, ip=next_address())])
        assert (await client.ask(get(API))).status == 503
    web.reach(API, [api.endpoint(alive.port)])
    assert (await client.ask(get(API))).status == 200
    await until(lambda: len(web.running._peers._lanes) <= 3)


# --- how many there may be --------------------------------------------------------------------------------


def test_connections_are_counted_anew_at_each_tick() -> None:
    """Those that have come and gone take no room."""
    now_open = len(list(Path("/proc/self/fd").iterdir()))
    room = Pressure(Limits(descriptors=now_open + 50), lambda: 0)
    for _ in range(20):
        room.measure()
        assert [room.full() for _ in range(30)] == [False] * 30
    assert True in [room.full() for _ in range(100)]


def test_the_answers_to_those_turned_away_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond, they are reset: an answer keeps a descriptor for a while."""
    made: list[object] = []
    telemetry = cast("Any", _Telemetry())
    crowded = Pressure(Limits(descriptors=0), lambda: 0)
    monkeypatch.setattr(pressure, "_MOST_ANSWERED", 3)
    accept = crowded.guard(asyncio.Protocol, telemetry, answer=True)
    made = [accept() for _ in range(5)]
    assert [type(one).__name__ for one in made] == ["_Answered"] * 3 + ["_TurnedAway"] * 2
    cast("asyncio.Protocol", made[0]).connection_lost(None)
    assert type(accept()).__name__ == "_Answered"


class _Telemetry:
    """Has one counter, which nobody reads."""

    def counter(self, *_: object) -> _Telemetry:
        return self

    def add(self, _labels: object) -> None:
        """Not looked at here."""


# --- the end ------------------------------------------------------------------------------------------------


class Lasting:
    """A served connection that ends when the test says so."""

    def __init__(self) -> None:
        self.deadline = float("inf")
        self.aborted = False

    def expire(self) -> None:
        raise AssertionError("it has no deadline")

    def drain(self) -> None:
        """It is busy."""

    def abort(self) -> None:
        self.aborted = True


async def test_a_drain_waits_although_there_was_a_moment_without_connections() -> None:
    registry = Registry(asyncio.get_running_loop(), 60.0)
    early, late = Lasting(), Lasting()
    registry.add(early)
    registry.forget(early)
    registry.add(late)
    draining = Tasks().start("drain", registry.drain(60.0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (draining.done(), late.aborted) == (False, False)
    registry.forget(late)
    assert await draining
    assert not late.aborted
