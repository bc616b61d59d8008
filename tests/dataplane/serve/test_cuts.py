"""However the bytes of requests and responses are cut, everybody sees the same.

A message that arrives in one piece takes the short way through `http_server` and `http_client`, all
others take the long one: both must mean the same. No sockets: both sides stand between transports
that write down what they are told.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, cast

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from dataplane.core.balance import Load
from dataplane.core.outcome import Reply
from dataplane.core.request_ids import RequestIds
from dataplane.serve.connecting import Line
from dataplane.serve.gate import Refusal, Serving, Way
from dataplane.serve.http2_client import Trunk
from dataplane.serve.http_server import Downstream
from dataplane.serve.limits import Limits
from dataplane.serve.pool import Lane
from dataplane.serve.pressure import Pressure
from dataplane.serve.registry import Registry
from dataplane.telemetry import HttpSeries
from dataplane.wire.http1 import RequestHead
from tests.dataplane.serve.fakes import AtOnce, Clock, Wire

REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n",
    b"GET /own HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\nX-Request-Id: 2\r\nAuthorization: b\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET /behind/a/blank HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\n",
    b"GET /older HTTP/1.0\r\n\r\n",
    b"GET /refused HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n Folded: a\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\nDate: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length:5\r\nX-Own: mine\r\n\r\nhello",
    b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.0 200\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nBad Name: 2\r\n\r\n",
)
BODILESS = (b"HTTP/1.1 204", b"HTTP/1.1 304")


class Gate:
    """Lets everything pass but `/refused`."""

    def __init__(self, lane: Lane) -> None:
        self.series = HttpSeries()
        own = frozenset({b"x-own"})
        self._way = Way(lane, self.series, Load(), extra=b"x-own: 1\r\n", drop=own, drop_response=own)

    def decide(self, head: RequestHead) -> Way | Refusal:
        if head.target == b"/refused":
            return self.refuse(Reply(403, "refused", "x-why: because", "no"))
        return self._way

    def again(self, _way: Way, _tried: Sequence[Way]) -> Way | None:
        return None

    def refuse(self, reply: Reply) -> Refusal:
        return Refusal(reply, self.series)

    @property
    def active(self) -> int:
        return self._way.load.active


class Server:
    """One connection to the server: reads requests and answers each with the next of `answers`."""

    def __init__(self, protocol: Any, requests: list[tuple[Any, ...]], answers: Iterable[bytes]) -> None:
        self.protocol = protocol
        self.wire = Wire()
        self._parser = httptools.HttpRequestParser(self)
        self._requests = requests
        self._answers = iter(answers)
        self._read = 0
        self._asked: list[bytes] = []
        self._last = False
        self._url = self._body = b""
        self._fields: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        assert not self._last, "a connection that was to be closed is used again"
        self._url = self._body = b""
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method()
        self._requests.append((method, self._url, self._fields, self._body))
        self._asked.append(method)

    def serve(self, cut: Cut) -> bool:
        """Answer what has been asked; whether anything was."""
        data, self._read = self.wire.written[self._read :], len(self.wire.written)
        if data:
            self._parser.feed_data(data)
        if not self._asked:
            return False
        method = self._asked.pop(0)
        answer = next(self._answers)
        self._last = b"\r\nConnection: close" in answer or answer.startswith(b"HTTP/1.0")
        if method == b"HEAD" or answer.startswith(BODILESS):
            answer = answer[: answer.rindex(b"\r\n\r\n") + 4]
        for piece in cut(answer):
            if not self.wire.closing:
                self.protocol.data_received(piece)
        if b"until the end" in answer and not self.wire.closing:
            self.protocol.eof_received()
        return True

    def end(self) -> None:
        if self.wire.closing and not self.wire.gone:
            self.wire.gone = True
            self.protocol.connection_lost(None)


class Cut:
    """Cuts bytes into pieces whose sizes come round and round; (): not at all."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = itertools.cycle(sizes or (1 << 20,))

    def __call__(self, data: bytes) -> Iterable[bytes]:
        while data:
            size = next(self._sizes)
            yield data[:size]
            data = data[size:]


def seen(
    requests: Sequence[bytes], responses: Sequence[bytes], sizes: Sequence[int], answer_sizes: Sequence[int]
) -> tuple[Any, ...]:
    """What client, server and metrics saw of an exchange of messages, cut to these sizes."""
    limits = Limits(buffered=40)
    loop = cast("asyncio.AbstractEventLoop", Clock())
    registry = Registry(loop, 1.0)
    servers: list[Server] = []
    arrived: list[tuple[Any, ...]] = []
    answers = itertools.cycle(responses)

    async def open_(make: Any) -> Any:
        server = Server(make(), arrived, answers)
        servers.append(server)
        server.protocol.connection_made(server.wire)
        return server.wire

    def generation() -> None:
        return None

    lane = Lane(
        open_, generation, registry, 1.0, 9, Trunk(open_, generation, registry, mesh=False), Line(9, 1.0)
    )
    serving = Serving(loop, limits, registry, cast("Any", AtOnce()), Pressure(limits), RequestIds(bytes(16)))
    gate, wire, cut = Gate(lane), Wire(), Cut(answer_sizes)
    client = Downstream(serving, gate)
    client.connection_made(cast("asyncio.Transport", wire))

    def settle() -> None:
        busy = True
        while busy:
            busy = False
            for server in servers:
                busy |= not server.wire.closing and server.serve(cut)
                server.end()

    for piece in Cut(sizes)(b"".join(requests)):
        if not wire.closing:
            client.data_received(piece)
        settle()
    assert wire.closing or wire.reading
    if not wire.closing and client.eof_received() is False:
        wire.closing = True
    client.connection_lost(None)
    settle()
    assert gate.active == 0
    assert len(registry) == 0
    counts = {key: sum(same.buckets) for key, same in gate.series.exchanges.items()}
    return wire.written, wire.closing, arrived, counts


SIZES = st.lists(st.integers(1, 90), max_size=4)


@example([REQUESTS[3]] * 9, [RESPONSES[0]], [2, 100], [])
@given(
    st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6),
    st.lists(st.sampled_from(RESPONSES), min_size=1, max_size=4),
    SIZES,
    SIZES,
)
def test_cuts_are_invisible(
    requests: list[bytes], responses: list[bytes], sizes: list[int], answer_sizes: list[int]
) -> None:
    whole = [len(request) for request in requests]
    expected = seen(requests, responses, [1], [1])
    assert seen(requests, responses, whole, []) == expected  # one read each: the short way
    assert seen(requests, responses, [], []) == expected  # pipelined
    assert seen(requests, responses, sizes, answer_sizes) == expected
