"""`python -m tests.dataplane.serve.measure_path [profile]`: microseconds of Python per HTTP/1.1 exchange.

Both sides of a sidecar between transports that do nothing, so that the kernel has no part in the
figure: one request and one response each, the path and one field different every time. The best of
many short rounds is printed, for the machine does other things too; nothing is asserted. `profile`
prints the calls per exchange instead.
"""

from __future__ import annotations

import asyncio
import cProfile
import itertools
import pstats
import random
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import uvloop

from dataplane import process
from dataplane.core.outbound import Router
from dataplane.serve.gate import Serving
from dataplane.serve.handshakes import Handshakes
from dataplane.serve.http_server import Downstream
from dataplane.serve.inbound import Inbound, _Gate
from dataplane.serve.limits import Limits
from dataplane.serve.outbound import Outbound, _Explicit
from dataplane.serve.pool import App, Peers
from dataplane.serve.pressure import Pressure
from dataplane.serve.registry import NEVER, Registry
from dataplane.serve.udp_series import UdpCommon, UdpCounters
from dataplane.tasks import Tasks
from smi.policy.access import Peer
from smi.policy.snapshot import Endpoint
from tests.dataplane.serve.mesh import Mesh, match, routes, split

FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-GB,en;q=0.9",
    "Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "X-Tenant: acme",
    "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 06:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n" + b"x" * 100
)
COUNT = 200
"""Exchanges of a round: short enough for a round that nobody disturbs."""
ROUNDS = 400


class Wire:
    """A transport that takes everything and does nothing."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def resume_reading(self) -> None:
        pass

    pause_reading = close = abort = resume_reading


def requests(host: str) -> list[bytes]:
    """So many requests, no two of them equal."""
    return [
        "\r\n".join(
            (f"GET /api/v1/items/{number} HTTP/1.1", f"Host: {host}", *FIELDS, f"X-Number: {number}", "", "")
        ).encode()
        for number in range(COUNT)
    ]


def exchanges(client: Downstream, wires: list[Wire], blocks: list[bytes]) -> Callable[[], None]:
    """Serve all of `blocks`, one after the other; `wires`: what the lane opened."""

    def run() -> None:
        for block in blocks:
            client.data_received(block)
            wires[0].protocol.data_received(ANSWER)

    return run


def opener(wires: list[Wire]) -> Callable[..., Any]:
    async def opened(make: Callable[[], Any]) -> Wire:
        wire = Wire()
        wire.protocol = make()
        wire.protocol.connection_made(wire)
        wires.append(wire)
        return wire

    return opened


async def sides() -> dict[str, Callable[[], None]]:
    """What runs all exchanges, per side."""
    mesh, limits = Mesh(), Limits(tick=3600.0)
    web, api = mesh.make("web"), mesh.make("api")
    web.admit()
    halves = [split("halves", {"a": 1, "b": 1}, [match("/(api|bytes)/.*", "GET", "POST")])]
    plain = Endpoint("127.0.0.1", 9)
    clusters = {"shop/a:8080": [plain], "shop/b:8080": [plain]}
    web.reach("one.shop:80", [plain], service="shop/one", splits=halves, clusters=clusters)
    api.admit(routes(match("/(api|bytes)/.*", "GET", "POST")))
    loop = asyncio.get_running_loop()
    registry = Registry(loop, limits.tick)
    serving = Serving(loop, limits, registry, Tasks(), Pressure(limits))
    out = Outbound(
        serving,
        web.state,
        Router(web.state.cluster, random.random),
        Peers(web.contexts, 1, limits, registry, Handshakes("client", web.telemetry, time.time)),
        web.telemetry,
        frozenset(),
        lambda _transport: None,
    )
    into = Inbound(
        serving,
        api.state,
        api.contexts,
        App("127.0.0.1", limits, registry),
        api.telemetry,
        frozenset(),
        lambda _transport: None,
        UdpCommon(UdpCounters(api.telemetry), 30.0),
        Handshakes("server", api.telemetry, time.time),
    )
    peer = Peer(web.identity, "shop/web-1")
    found: dict[str, Callable[[], None]] = {}
    for name, gate in (
        ("outbound", _Explicit(out)),
        ("inbound", _Gate(into, peer, 9, cast("asyncio.Transport", Wire()))),
    ):
        wires: list[Wire] = []
        client, wire = Downstream(serving, gate), Wire()
        client.adopt(cast("asyncio.Transport", wire))
        blocks = requests("one.shop")
        client.data_received(blocks[0])
        assert client._way is not None
        client._way.lane._opener = opener(wires)
        while not wires:  # noqa: ASYNC110 - the lane's task says it by adding one
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        wires[0].protocol.data_received(ANSWER)
        assert wire.written.endswith(b"x" * 100), wire.written
        found[name] = exchanges(client, wires, blocks)
    registry.stop()
    return found


async def main() -> None:
    profiled = "profile" in sys.argv[1:]
    runs = await sides()
    process.freeze_heap()
    best: dict[str, float] = dict.fromkeys(runs, NEVER)
    for _, (name, run) in itertools.product(range(ROUNDS), runs.items()):
        began = time.perf_counter()
        run()
        best[name] = min(best[name], (time.perf_counter() - began) / COUNT * 1e6)
    for name, run in runs.items():
        print(f"{name}: {best[name]:.1f} µs")  # noqa: T201 - a command that people run
        if profiled:
            profile = cProfile.Profile()
            profile.runcall(run)
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    uvloop.run(main())
