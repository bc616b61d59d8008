"""Peers whose host is gone, without a word: they are found. Real sockets, and packets that are dropped."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from dataplane.serve.limits import Limits
from dataplane.serve.sockets import unanswered
from dataplane.serve.tunnel import Tunnel
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http import Client, Echo, get
from tests.dataplane.serve.mesh import API, QUICK, Mesh, Pod, mesh, two_hops
from tests.dataplane.serve.test_tcp import echo, pair
from tests.dataplane.serve.udp import Pair, grant
from tests.dataplane.waiting import until

SHORT = replace(QUICK, keepalive=1, keepalive_interval=1, keepalive_probes=2, unanswered=2.0)
_NEW_NETWORK = 0x40000000  # linux/sched.h, CLONE_NEWNET


def watched(transport: Any) -> tuple[int, ...]:
    """Keepalive: whether, after how many seconds, how often, how many times; user timeout in ms."""
    sock = transport.get_extra_info("socket")
    options = (
        socket.TCP_KEEPIDLE,
        socket.TCP_KEEPINTVL,
        socket.TCP_KEEPCNT,
        socket.TCP_USER_TIMEOUT,
    )
    on = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return on, *(sock.getsockopt(socket.IPPROTO_TCP, option) for option in options)


def tunnels(*pods: Pod) -> list[Tunnel]:
    served = [one for pod in pods for one in pod.running._serving.registry._served]
    return [one for one in served if isinstance(one, Tunnel)]


async def test_both_ends_of_tunnels_are_watched(net: Mesh) -> None:
    web, db = await pair(net, echo)
    client = await net.client(web.outbound)
    client.send(b"x")
    assert await client.read(1) == b"x"
    ends = [end for tunnel in tunnels(web, db) for end in (tunnel.client, tunnel.server)]
    assert [watched(end.transport) for end in ends] == [(1, 60, 15, 4, 0)] * 4


async def test_upgraded_connections_are_watched(net: Mesh) -> None:
    async def switches(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        await reader.read()

    web, api = await two_hops(net, switches)
    client = await net.client(web.outbound)
    client.send(get(API, "/", "Connection: upgrade", "Upgrade: websocket"))
    assert (await client.receive(head_only=True)).status == 101
    await until(lambda: len(tunnels(web, api)) == 2)
    ends = [end for tunnel in tunnels(web, api) for end in (tunnel.client, tunnel.server)]
    assert [watched(end.transport) for end in ends] == [(1, 60, 15, 4, 0)] * 4


async def test_pooled_connections_are_watched(net: Mesh) -> None:
    """For an answer that takes long, and messages of gRPC that are far between."""
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    lanes = [*web.running._peers._lanes.values(), *api.running._app._lanes.values()]
    assert [watched(upstream.transport) for lane in lanes for upstream in lane._idle] == [
        (1, 60, 15, 4, 0)
    ] * 2


async def test_carriers_are_watched_and_must_be_read(net: Mesh) -> None:
    both = Pair(net)
    await both.begin()
    both.clock.admit(grant(both.port))
    both.caller.send(b"x")
    await both.caller.answers(1)
    [link] = both.caller.udp._open
    [caller] = both.clock.running.udp.inbound._callers
    for carrier in (link.carrier, caller.carrier):
        assert watched(carrier._transport) == (1, 60, 15, 4, 30_000)


class Reported:
    """A transport of which the kernel says this."""

    def __init__(self, retransmits: int, probes: int, silent: float) -> None:
        self._info = bytes([1, 0, retransmits, probes]).ljust(56, b"\0") + int(silent * 1000).to_bytes(
            4, "little"
        )

    def get_extra_info(self, _name: str) -> Any:
        return self

    def getsockopt(self, _level: int, option: int, size: int) -> bytes:
        assert option == socket.TCP_INFO
        return self._info[:size]


@pytest.mark.parametrize(
    ("retransmits", "probes", "silent", "gone"),
    [
        (0, 0, 3000.0, False),  # nothing under way
        (9, 0, 179.0, False),  # the next acknowledgement may come
        (0, 9, 119.0, False),  # a window that has long been closed, with its host there: it answers probes
        (9, 0, 180.0, True),
        (0, 2, 181.0, True),
    ],
)
def test_a_peer_that_is_there_and_does_not_read_is_not_gone(
    retransmits: int, probes: int, silent: float, gone: bool
) -> None:
    transport: Any = Reported(retransmits, probes, silent)
    assert unanswered(transport, Limits().unanswered) is gone


def _in_a_network_of_its_own(body: Callable[[], Awaitable[None]]) -> None:
    """Run `body` in a thread that has a network namespace for itself, and so its sockets and children."""

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(_NEW_NETWORK) == 0, os.strerror(ctypes.get_errno())
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(body())  # type: ignore[arg-type]  # a coroutine function's

    with ThreadPoolExecutor(1) as threads:
        threads.submit(run).result(timeout=50)


def _drop(client: Client) -> None:
    """From now on no packet reaches this client, and none of it anybody."""
    port = str(client.writer.get_extra_info("sockname")[1])
    for side in ("--sport", "--dport"):
        rule = ["iptables", "-w", "-A", "INPUT", "-p", "tcp", side, port, "-j", "DROP"]
        subprocess.run(rule, check=True, timeout=10)


@pytest.mark.e2e
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed")
def test_hosts_that_vanish() -> None:
    """One was silent, one was being written to, one had ended its side: their tunnels end, as `vanished`."""
    broken: list[str] = []

    async def body() -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            kind = (await reader.readexactly(1)).decode()
            writer.write(b"!")
            try:
                await gone.wait()
                if kind == "w":
                    writer.write(b"x" * 100)
                if kind == "h":
                    await asyncio.Event().wait()  # wants to say more, some time
                await reader.readexactly(1)
            except ConnectionError:
                broken.append(kind)

        async with mesh(SHORT) as net:
            web, _ = await pair(net, serve, Protocol.TCP)
            silent, written, halfway = [await net.client(web.outbound) for _ in range(3)]
            for client, kind in ((silent, b"s"), (written, b"w"), (halfway, b"h")):
                client.send(kind)
                assert await client.read(1) == b"!"
            halfway.writer.write_eof()
            await until(lambda: sum(tunnel.client.ended for tunnel in tunnels(web)) == 1)
            for client in (silent, written, halfway):
                _drop(client)
            gone.set()
            [series] = web.telemetry._tcp.values()
            await until(lambda: sum(series.closed.values()) == 3, 20.0)
            assert series.closed == {"vanished": 3}
            await until(lambda: {"s", "w"} <= set(broken))

    _in_a_network_of_its_own(body)
