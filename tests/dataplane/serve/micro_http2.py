"""`python -m tests.dataplane.serve.micro_http2 [get|grpc] [profile]`: CPU per HTTP/2 request without sockets.

The outbound side on fake transports: four clients of twenty streams each, one server, a split chosen
by method and path, nine fields. What clients and server send is made outside of the measured time.
`vary` gives every request a path and a trace id of its own. Figures are reported, never asserted.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

from jh2._hazmat import Encoder

from dataplane.core.outbound import Plan, Router
from dataplane.serve.gate import Serving
from dataplane.serve.handshakes import Handshakes
from dataplane.serve.http2_client import UpstreamLink
from dataplane.serve.http2_server import DownstreamLink
from dataplane.serve.limits import Limits
from dataplane.serve.outbound import Outbound, _Explicit
from dataplane.serve.pool import Peers
from dataplane.serve.pressure import Pressure
from dataplane.serve.registry import Registry
from dataplane.tasks import Tasks
from dataplane.wire.http2.frames import PREFACE, frame, settings, window_update
from smi.policy.snapshot import Endpoint, Protocol
from tests.dataplane.serve.mesh import Mesh, match, split

FIELDS = (
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"accept-language", b"en-GB,en;q=0.9"),
    (b"authorization", b"Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0"),
    (b"x-tenant", b"acme"),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    (b"cache-control", b"no-cache"),
)
GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
ANSWER = (b"nginx/1.22.1", b"Sat, 21 Nov 2026 05:40:01 GMT", b"text/plain", b"100")
NAMES = (b"\x76", b"\x61", b"\x5f", b"\x5c")
"""server, date, content-type, content-length: nginx writes literals that enter the table, each time."""
STREAMS = 20


class Loop:
    """Runs what was put off when it is told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def time(self) -> float:
        return perf_counter()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, _seconds: float, _callback: Callable[[], None]) -> Any:
        return self

    def cancel(self) -> None:
        pass

    def run(self) -> None:
        while self.soon:
            soon, self.soon = self.soon, []
            for callback in soon:
                callback()


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.out: list[bytes] = []

    def write(self, data: Any) -> None:
        self.out.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def taken(self) -> bytes:
        out, self.out = self.out, []
        return b"".join(out)


class Client:
    """Asks again when it is answered, as h2load does."""

    def __init__(self, grpc: bool, vary: bool) -> None:
        self.encoder = Encoder()
        self.next = 1
        self.grpc, self.vary = grpc, vary
        self.path = b"/api/Echo" if grpc else b"/api/v1/items"

    def ask(self, count: int) -> bytes:
        out = []
        for _ in range(count):
            path = b"%s/%d" % (self.path, self.next) if self.vary else self.path
            fields = [
                (b":method", b"POST" if self.grpc else b"GET", False),
                (b":scheme", b"http", False),
                (b":path", path, False),
                (b":authority", b"one.h2", False),
                *((n, b"%032x" % self.next if self.vary and n == b"traceparent" else v, False)
                  for n, v in FIELDS),
                *((n, v, False) for n, v in (GRPC if self.grpc else ())),
            ]  # fmt: skip
            block = self.encoder.encode(fields, True)
            out.append(frame(1, 4 if self.grpc else 5, self.next, block))
            if self.grpc:
                out.append(frame(0, 1, self.next, b"\0\0\0\0\5hello"))
            self.next += 2
        return b"".join(out)


def answers(data: bytes, grpc: bool) -> bytes:
    """What a server says to the requests in `data`."""
    out, at = [], 0
    encoder = Encoder()
    coded = [encoder.add((b"x", value), True, True)[3:] for value in ANSWER]
    block = b"\x88" + b"".join(name + value for name, value in zip(NAMES, coded, strict=True))
    while at + 9 <= len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        if data[at + 3] == (0 if grpc else 1) and data[at + 4] & 1:
            number = int.from_bytes(data[at + 5 : at + 9], "big")
            out.append(frame(1, 4, number, block) + frame(0, 1, number, b"x" * 100))
        at += 9 + size
    return b"".join(out)


def finished(data: bytes) -> int:
    count = at = 0
    while at + 9 <= len(data):
        count += data[at + 3] == 0 and data[at + 4] & 1
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return count


async def measure(grpc: bool, vary: bool, batches: int, profile: cProfile.Profile | None) -> float:
    """Microseconds per request."""
    net = Mesh()
    web = net.make("web")
    real = asyncio.get_running_loop()
    loop: Any = Loop()
    limits = Limits(requests_per_endpoint=1 << 20)
    registry = Registry(real, 60.0)
    serving = Serving(loop, limits, registry, Tasks(), Pressure(limits))
    telemetry = web.telemetry
    router = Router(web.state.cluster, lambda: 0.5)
    peers = Peers(web.contexts, 1, limits, registry, Handshakes("client", telemetry, perf_counter))
    outbound = Outbound(serving, web.state, router, peers, telemetry, frozenset(), lambda _: None)
    web.admit()
    end = Endpoint("127.0.0.1", 9)
    clusters = {"shop/a:8080": [end], "shop/b:8080": [end]}
    chosen = split("s", {"a": 1, "b": 1}, [match("/(api|bytes)/.*", "GET", "POST")])
    protocol = Protocol.GRPC if grpc else Protocol.HTTP2
    web.reach("one.h2:80", [], splits=[chosen], clusters=clusters, protocol=protocol)

    wire = Transport()
    trunk = peers.lane(Plan(end)).trunk
    up = UpstreamLink(loop, registry, trunk, trunk._generation(), False)
    up.connection_made(wire)
    trunk._links.append(up)
    up.data_received(settings([(3, 1000), (5, 65536)]) + window_update(0, 1 << 30))
    downs = []
    for _ in range(4):
        transport = Transport()
        down = DownstreamLink(serving, _Explicit(outbound))
        down.connection_made(transport)
        down.data_received(PREFACE + settings([(4, 1 << 30)]) + window_update(0, 1 << 30))
        downs.append((down, transport, Client(grpc, vary)))
    loop.run()
    wire.taken()
    spent = 0.0
    done = 0
    wanted = [STREAMS] * 4
    for batch in range(batches):
        sent = [client.ask(count) for (_, _, client), count in zip(downs, wanted, strict=True)]
        if batch == 50:
            spent, done = 0.0, 0
            if profile is not None:
                profile.enable()
        began = process_time()
        for (down, _, _), data in zip(downs, sent, strict=True):
            down.data_received(data)
            loop.run()
        spent += process_time() - began
        back = answers(wire.taken(), grpc)
        half = len(back) // 2
        began = process_time()
        up.data_received(back[:half])
        loop.run()
        up.data_received(back[half:])
        loop.run()
        spent += process_time() - began
        wanted = [finished(transport.taken()) for _, transport, _ in downs]
        done += sum(wanted)
    if profile is not None:
        profile.disable()
    assert done == STREAMS * 4 * (batches - 50), done
    registry.stop()
    return spent / done * 1e6


def main(*words: str) -> None:
    profile = cProfile.Profile() if "profile" in words else None
    arguments = ("grpc" in words, "vary" in words, 300)
    best = min(asyncio.run(measure(*arguments, profile)) for _ in range(1 if profile else 7))
    sys.stdout.write(f"{' '.join(words)}: {best:.2f} us/request\n")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main(*sys.argv[1:])
