"""Bytes through both sides of the proxy, without sockets: what a server, and what a client, gets of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from dataplane.core.balance import Load
from dataplane.core.inbound import CALLER_FIELDS
from dataplane.core.outcome import Outcome, Reply, failed
from dataplane.core.request_ids import RequestIds
from dataplane.serve.connecting import Line
from dataplane.serve.gate import Refusal, Serving, Way
from dataplane.serve.http2_client import Trunk
from dataplane.serve.http_client import Upstream
from dataplane.serve.http_server import Downstream
from dataplane.serve.limits import Limits
from dataplane.serve.outbound import to_origin_form
from dataplane.serve.pool import Lane
from dataplane.serve.pressure import Pressure
from dataplane.serve.registry import Registry
from dataplane.telemetry import HttpSeries
from dataplane.wire.body import Chunked
from dataplane.wire.http1 import RequestHead
from smi.names import DENIAL_HEADER, REASON_HEADER
from tests.dataplane.serve.fakes import AtOnce, Clock, Wire
from tests.dataplane.serve.judges import Asked

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_OURS = frozenset({DENIAL_HEADER.encode(), REASON_HEADER.encode()})


class Gate:
    """Brings requests into the form that goes on and lets them pass, as the two real ones do."""

    def __init__(self, lane: Lane) -> None:
        self.series = HttpSeries()
        self.heads: list[RequestHead] = []
        extra = b"x-forwarded-client-cert: By=spiffe://a/b;URI=spiffe://c/d\r\nx-forwarded-for: 10.0.0.1\r\n"
        self._way = Way(lane, self.series, Load(), extra=extra, drop=CALLER_FIELDS, drop_response=_OURS)

    def decide(self, head: RequestHead) -> Way | Refusal:
        if head.method == b"CONNECT":
            return self.refuse(failed(Outcome.NOT_IMPLEMENTED, "CONNECT is for proxies"))
        to_origin_form(head)
        self.heads.append(head)
        return self._way

    def again(self, _way: Way, _tried: Sequence[Way]) -> Way | None:
        return None

    def hold(self, _head: RequestHead, _way: Way, _tried: Sequence[Way], _turn: int) -> None:
        return None

    def refuse(self, reply: Reply) -> Refusal:
        return Refusal(reply, self.series)


@dataclass
class Server:
    """One connection to the server."""

    upstream: Upstream
    wire: Wire
    begun: int = 0
    """Where in what was written the request under way begins."""

    def asked(self) -> bytes | None:
        """The request that has been sent and not answered; None while there is none, or not all of it."""
        upstream = self.upstream
        if self.wire.closing or upstream.exchange is None or not upstream._request_done:
            return None
        found, self.begun = bytes(self.wire.written[self.begun :]), len(self.wire.written)
        return found

    def answer(self, data: bytes, step: int = 1 << 20) -> None:
        for at in range(0, len(data), step):
            if not self.wire.closing:
                self.upstream.data_received(data[at : at + step])

    def end(self) -> None:
        """No more comes of the server."""
        if not self.wire.closing:
            self.upstream.eof_received()
        self.wire.closing = True
        self.upstream.connection_lost(None)


@dataclass
class Proxy:
    """One client's connection and those to the server."""

    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        loop = cast("asyncio.AbstractEventLoop", Clock())
        registry = Registry(loop, 1.0)
        self.servers: list[Server] = []
        self.wire = Wire()
        trunk = Trunk(self._open, _never, registry, mesh=False)
        self.gate = Gate(Lane(self._open, None, registry, 1.0, 9, trunk, Line(9, 1.0)))
        at_once = cast("Any", AtOnce())
        ids = RequestIds(bytes(16))
        self.client = Downstream(
            Serving(loop, self.limits, registry, at_once, Pressure(self.limits), ids), self.gate
        )
        self.client.connection_made(cast("asyncio.Transport", self.wire))

    async def _open(self, make: Any) -> Any:
        upstream = make()
        wire = Wire()
        self.servers.append(Server(upstream, wire))
        upstream.connection_made(wire)
        return wire

    def send(self, piece: bytes) -> None:
        """The client sends."""
        if not self.wire.closing:
            self.client.data_received(piece)

    def end(self) -> None:
        """The client has gone."""
        self.wire.closing = True
        self.client.connection_lost(None)

    @property
    def outcomes(self) -> dict[tuple[int, str], int]:
        """How many exchanges ended with a status and a reason."""
        return {(key[0], key[1]): sum(same.buckets) for key, same in self.gate.series.exchanges.items()}


def _never() -> None:
    return None


def pieces(data: bytes, sizes: Sequence[int]) -> Iterable[bytes]:
    """`data`, cut to sizes that come round and round; (): not at all."""
    if not sizes:
        yield data
        return
    for size in itertools.cycle(sizes):
        if not data:
            return
        yield data[:size]
        data = data[size:]


@dataclass
class Reached:
    """What one of the server's connections got."""

    requests: list[Asked]
    """The complete requests, as we understood them."""
    stream: bytes
    cut: bool
    """Behind them is a part of one more."""


@dataclass
class Passed:
    """What became of a client's bytes."""

    servers: list[Reached]
    refused: bool
    """Something was answered by us."""


def relay_requests(data: bytes, sizes: Sequence[int] = ()) -> Passed:
    """A client sends `data`; the server answers each complete request with 200."""
    proxy = Proxy()
    requests: list[list[Asked]] = []
    count = 0
    for piece in pieces(data, sizes):
        proxy.send(piece)
        busy = True
        while busy:
            busy = False
            for number, server in enumerate(proxy.servers):
                if number == len(requests):
                    requests.append([])
                written = server.asked()
                if written is not None:
                    busy = True
                    requests[number].append(_understood(proxy.gate.heads[count], written))
                    count += 1
                    server.answer(OK)
    refused = any(reason for _, reason in proxy.outcomes)
    proxy.end()
    return Passed(
        [
            Reached(found, bytes(server.wire.written), len(server.wire.written) > server.begun)
            for found, server in zip(requests, proxy.servers, strict=True)
        ],
        refused,
    )


def _understood(head: RequestHead, written: bytes) -> Asked:
    _, _, sent = written.partition(b"\r\n\r\n")
    if head.content_length < 0:
        coding = Chunked(decode=True)
        assert coding.take(sent) == len(sent)
        assert coding.done
        sent = coding.decoded()
    else:
        assert len(sent) == head.content_length
    return Asked(head.method, head.target, head.host, sent)


@dataclass
class Returned:
    """What became of a server's bytes."""

    stream: bytes
    """What the client got."""
    closed: bool
    outcomes: dict[tuple[int, str], int]


def relay_responses(methods: Sequence[bytes], answers: Sequence[bytes], step: int = 1 << 20) -> Returned:
    """A client sends a request of each method at once; the server answers each with the next of `answers`.

    A server that gives no complete answer ends its connection.
    """
    proxy = Proxy()
    proxy.send(b"".join(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n" for method in methods))
    for answer in answers:
        asking = [server for server in proxy.servers if server.asked() is not None]
        if not asking:
            break
        (server,) = asking
        exchange = server.upstream.exchange
        count = sum(proxy.outcomes.values())
        server.answer(answer, step)
        if server.upstream.exchange is exchange and sum(proxy.outcomes.values()) == count:
            server.end()
    closed = proxy.wire.closing
    outcomes = proxy.outcomes
    proxy.end()
    return Returned(bytes(proxy.wire.written), closed, outcomes)
