"""A thousand proxies asked at once: bounded, on time, and honest about who did not answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from controller.compile.world import Pod
from controller.metricsapi.sources import MAX_ANSWER, ProxySource
from tests.controller.metricsapi.build import document, pod, row


@dataclass
class Proxies:
    """One server that is every proxy: 127.0.0.0/8 is all this machine, the address says who is asked."""

    port: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    open: int = 0
    most: int = 0
    silent: set[str] = field(default_factory=set)
    answers: dict[str, bytes] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ip = writer.get_extra_info("sockname")[0]
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked[ip] += 1
            self.targets.add(head.split(b" ")[1].decode())
            if ip in self.silent:
                await reader.read()
                return
            body = (
                self.answers.get(ip) or json.dumps(document(name_of(ip), row("inbound", success=1))).encode()
            )
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the asker gave up
        finally:
            self.open -= 1
            writer.close()


def name_of(ip: str) -> str:
    return f"shop/p-{ip.replace('.', '-')}"


def pods(count: int) -> list[Pod]:
    ips = [f"127.9.{number // 250}.{number % 250 + 1}" for number in range(count)]
    return [pod(name_of(ip), ip=ip) for ip in ips]


@asynccontextmanager
async def proxies() -> AsyncIterator[Proxies]:
    there = Proxies()
    server = await asyncio.start_server(there.serve, "0.0.0.0", 0, backlog=1024)
    there.port = server.sockets[0].getsockname()[1]
    try:
        yield there
    finally:
        server.close()
        await server.wait_closed()


async def test_a_thousand_proxies_are_asked_with_bounds() -> None:
    async with proxies() as there:
        source = ProxySource(time.monotonic, port=there.port, at_once=32, one_seconds=30, all_seconds=50)
        try:
            gathered = await source.gather(pods(1000))
        finally:
            await source.close()
    assert (len(gathered.samples), gathered.asked, gathered.missing) == (1000, 1000, ())
    assert set(there.asked.values()) == {1}
    assert there.targets == {"/samples?window=30"}
    assert there.most <= 32


async def test_the_silent_are_named_and_not_waited_for() -> None:
    async with proxies() as there:
        some = pods(20)
        there.silent = {some[3].ips[0], some[7].ips[0]}
        broken = (b"{", b'{"version": 9}', b"[]", b" " * (MAX_ANSWER + 1))
        for one, text in zip(some[10:14], broken, strict=True):
            there.answers[one.ips[0]] = text
        starting = pod("shop/starting", ip=some[3].ips[0], ready=False)
        source = ProxySource(time.monotonic, port=there.port, one_seconds=0.3, all_seconds=30)
        try:
            gathered = await source.gather([*some, starting])
        finally:
            await source.close()
    assert set(gathered.missing) == {some[index].name for index in (3, 7, 10, 11, 12, 13)}
    assert len(gathered.samples) == 14
    assert not gathered.down


async def test_the_deadline_holds_for_all_together() -> None:
    async with proxies() as there:
        some = pods(10)
        there.silent = {one.ips[0] for one in some[:8]}
        source = ProxySource(time.monotonic, port=there.port, at_once=64, one_seconds=60, all_seconds=0.5)
        try:
            gathered = await source.gather(some)
            assert {one.pod for one in gathered.samples} == {some[8].name, some[9].name}
            assert len(gathered.missing) == 8
        finally:
            await source.close()


async def test_nobody_there_is_down_and_nobody_asked_is_not() -> None:
    source = ProxySource(time.monotonic, port=1, one_seconds=5)
    try:
        assert (await source.gather(pods(2))).down
        nothing = await source.gather(())
        assert not nothing.down
        assert nothing.asked == 0
    finally:
        await source.close()


async def test_queries_at_the_same_time_share_one_request_and_later_ones_ask_again() -> None:
    async with proxies() as there:
        now = 0.0
        source = ProxySource(lambda: now, port=there.port)
        some = pods(3)
        try:
            both = await asyncio.gather(source.gather(some), source.gather(some[:2]))
            assert [len(one.samples) for one in both] == [3, 2]
            await source.gather(some)
            assert set(there.asked.values()) == {1}
            now = 1.5
            await source.gather(some)
            assert set(there.asked.values()) == {2}
        finally:
            await source.close()
