"""One HTTP/1.1 connection to a server: sends a request, reads the response, goes back to its pool.

Knows nothing of where the request came from: it tells an `Exchange` what arrives. It never decides
about retries; it says how far it got.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from dataplane.core.outcome import Outcome
from dataplane.serve.sockets import left_behind, stream
from dataplane.serve.tls import TlsLayer
from dataplane.wire.body import Body, Chunked, UntilClose
from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import MAX_INTERIMS, ResponseHead, find_response, head_end, parse_response

if TYPE_CHECKING:
    from dataplane.serve.pool import Lane


class Exchange:
    """The other half of a request under way. No Protocol: compiled, a class has its methods at hand."""

    __slots__ = ()

    def interim(self, head: ResponseHead) -> None:
        """A 1xx answer other than 101."""
        raise NotImplementedError

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """101: the connection is no longer HTTP; `data` came behind the head. The upstream is yours."""
        raise NotImplementedError

    def answer(self, head: ResponseHead, data: bytes) -> None:
        """The whole response: what follows the head in `data` is all of its body. It is complete."""
        raise NotImplementedError

    def respond(self, head: ResponseHead, body: Body | None, data: bytes) -> bool:
        """The final head, with as much of the body as has arrived. False: the answer is not wanted."""
        raise NotImplementedError

    def relay(self, data: bytes) -> None:
        """More of the body."""
        raise NotImplementedError

    def completed(self) -> None:
        """The response is complete."""
        raise NotImplementedError

    def lost(self, outcome: Outcome) -> None:
        """The exchange ends here; what was relayed is all there is."""
        raise NotImplementedError

    def pause(self) -> None:
        """The server does not take more for now."""
        raise NotImplementedError

    def resume(self) -> None:
        """It does again."""
        raise NotImplementedError


class Upstream:
    """A connection of a `Lane`. Between exchanges `exchange` is None. An asyncio.Protocol in all but name."""

    __slots__ = (
        "_body",
        "_buffer",
        "_close",
        "_interims",
        "_method",
        "_request_done",
        "answered",
        "exchange",
        "generation",
        "idle_since",
        "lane",
        "lost",
        "paused",
        "reused",
        "transport",
        "unseen",
        "wants_decoded",
    )

    def __init__(self, lane: Lane, generation: object) -> None:
        self.lane = lane
        self.generation = generation
        """What it was opened with (the TLS context, so that rotation retires it)."""
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.exchange: Exchange | None = None
        self.reused = False
        """Had an exchange before the present one."""
        self.answered = False
        """A byte of the present exchange's response has arrived."""
        self.unseen = False
        """The peer closed in order before it read the present exchange's request."""
        self.lost = False
        self.paused = False
        """Not read from for now."""
        self.idle_since = 0.0
        self.wants_decoded = False
        self._buffer = b""
        self._body: Body | None = None
        self._method = b""
        self._close = False
        self._interims = 0  # interim answers in the present exchange
        self._request_done = False

    @property
    def protocol(self) -> asyncio.Protocol:
        """Itself, for a transport: it inherits from nothing, so that it can be compiled."""
        return cast("asyncio.Protocol", self)

    # --- for the exchange ----------------------------------------------------------------------

    def begin(
        self, exchange: Exchange, method: bytes, block: bytes, complete: bool, decoded: bool = False
    ) -> None:
        """Send a request: its head and what is there of its body; `complete`: that is all of it.

        `decoded`: relay the content of a chunked response without the coding.
        """
        self.exchange = exchange
        self.answered = False
        self._method = method
        self._close = False
        self._interims = 0
        self._request_done = complete
        self.wants_decoded = decoded
        self.transport.write(block)

    def send(self, data: bytes, *, complete: bool) -> None:
        """More of the request's body."""
        self._request_done = complete
        self.transport.write(data)

    def pause_reading(self) -> None:
        """Whoever gets the response does not take more for now."""
        if not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self.transport.resume_reading()

    def abandon(self) -> None:
        """The exchange is not interested any more; a connection in the middle of one is of no use."""
        self.exchange = None
        self.transport.abort()

    def release(self) -> asyncio.Transport:
        """Give the transport away (tunnels)."""
        self.exchange = None
        self.lane.forget(self)
        return self.transport

    # --- for the transport -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = stream(transport)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Nobody asked: a response sent ahead of a request would answer somebody else's.
            self.transport.abort()
            return
        try:
            if self._body is not None:
                self._relay(exchange, self._body, data)
            elif self._buffer:
                searched = max(len(self._buffer) - 3, 0)
                self._head(exchange, self._buffer + data, searched)
            else:
                self.answered = True
                head = find_response(data)
                if head is None:
                    self._head(exchange, data, 0)
                elif self._whole(head, len(data)):
                    self.exchange = None
                    if head.close or self.lost or not self._request_done:
                        self.transport.close()
                    else:
                        self.reused = True
                        self.lane.give_back(self)
                    exchange.answer(head, data)
                else:
                    self._headed(exchange, head, data[head.end :])
        except BadMessage:
            self._fail(Outcome.BAD_RESPONSE)

    def eof_received(self) -> bool:
        if self.exchange is not None and isinstance(self._body, UntilClose):
            self._complete(self.exchange)
        else:
            layer: object = self.transport
            # A peer's proxy sends close_notify between requests only, and what is lost has none.
            self.unseen = isinstance(layer, TlsLayer) and not self.answered
            self._fail(Outcome.RESET)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.lane.forget(self)
        layer: object = self.transport
        if exc is not None and self.exchange is not None and not isinstance(layer, TlsLayer):
            data = left_behind(self.transport)
            if data:
                self.data_received(data)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.lost(Outcome.RESET)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.resume()

    # --- response ----------------------------------------------------------------------------------

    def _head(self, exchange: Exchange, data: bytes, searched: int) -> None:
        """`data` begins with a head, or a part of one of which `searched` bytes need no second look."""
        end = head_end(data, 0, searched)
        if not end:
            self._buffer = data
            return
        self._buffer = b""
        self._headed(exchange, parse_response(data[:end]), data[end:])

    def _whole(self, head: ResponseHead, size: int) -> bool:
        """Whether these `size` bytes are a final head, all of its body and nothing else."""
        length, status = head.content_length, head.status
        if status < 200 or status > 501:  # those the exchange may have to refuse
            return False
        if status == 204 or status == 304 or self._method == b"HEAD":
            return head.end == size
        return length is not None and length >= 0 and head.end + length == size

    def _headed(self, exchange: Exchange, head: ResponseHead, rest: bytes) -> None:
        """A head has arrived, and behind it `rest`."""
        while head.status < 200:
            if head.status == 101:
                if self.lost:
                    self._fail(Outcome.RESET)
                    return
                exchange.switched(head, rest)
                return
            self._interims += 1
            if self._interims > MAX_INTERIMS:
                raise BadMessage("interim answers without end")
            exchange.interim(head)
            if not rest or self.exchange is not exchange:
                return
            end = head_end(rest)
            if not end:
                self._buffer = rest
                return
            head, rest = parse_response(rest[:end]), rest[end:]
        self._close = head.close
        body = head.body(self._method, self.wants_decoded)
        if body is None:
            if exchange.respond(head, None, b""):
                self._finish(exchange, rest)
            else:
                self._unwanted(done=not rest)
            return
        taken = body.take(rest) if rest else 0
        piece = rest if taken == len(rest) else rest[:taken]
        if self.wants_decoded and isinstance(body, Chunked):
            piece = body.decoded()
        if not exchange.respond(head, body, piece):
            self._unwanted(done=body.done and taken == len(rest))
            return
        if body.done:
            self._finish(exchange, rest[taken:])
        else:
            self._body = body

    def _unwanted(self, *, done: bool) -> None:
        """The exchange goes on elsewhere; `done`: nothing more comes of this answer."""
        self.exchange = None
        if not done or self._close or not self._request_done or self.lost:
            self.transport.abort()
        else:
            self.reused = True
            self.lane.give_back(self)

    def _relay(self, exchange: Exchange, body: Body, data: bytes) -> None:
        taken = body.take(data)
        piece = data if taken == len(data) else data[:taken]
        if self.wants_decoded and isinstance(body, Chunked):
            piece = body.decoded()
        exchange.relay(piece)
        if body.done:
            self._finish(exchange, data[taken:])

    def _finish(self, exchange: Exchange, rest: bytes) -> None:
        """The response has ended by its own framing."""
        if rest:
            self._close = True  # bytes that no request asked for
        self._complete(exchange)

    def _complete(self, exchange: Exchange) -> None:
        if self.exchange is not exchange:
            return
        until_close = self._body is not None and not self._body.done
        self._body = None
        self.exchange = None
        if self._close or until_close or not self._request_done or self.lost:
            self.transport.close()
        else:
            self.reused = True
            self.lane.give_back(self)
        exchange.completed()

    def _fail(self, outcome: Outcome) -> None:
        exchange, self.exchange = self.exchange, None
        self.lane.forget(self)
        self.transport.abort()
        if exchange is not None:
            exchange.lost(outcome)
