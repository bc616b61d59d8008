"""One client's HTTP/2 connection, and the way of each of its requests to a server and back.

The same `Gate` decides as for HTTP/1.1, per request. No task is made for a request, except to
connect or to ask the controller. Credit for a stream's bytes is given when they are framed towards
the next hop, so that the slower side stops the faster one, stream by stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import perf_counter, time
from typing import Any, Final

from dataplane.core.answer import grpc_answer, grpc_end, grpc_timeout, is_grpc, plain_answer
from dataplane.core.breaker import status_of
from dataplane.core.outcome import Outcome, Reply, failed, malformed
from dataplane.core.retry import REPLAYABLE, Loss
from dataplane.core.traces import trace_of
from dataplane.serve.attempts import Attempts, peer_loss
from dataplane.serve.gate import (
    CLIENT_GONE,
    SHUTDOWN,
    TRUNCATED,
    Decision,
    Gate,
    Refusal,
    Serving,
    Way,
)
from dataplane.serve.http2_client import UpstreamLink
from dataplane.serve.http2_link import Link
from dataplane.serve.pool import avoid
from dataplane.serve.registry import NEVER
from dataplane.telemetry import HttpSeries
from dataplane.tracing.tracer import Span
from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import Fields
from dataplane.wire.http2 import BadConnection, Code, Stream
from dataplane.wire.http2.bounds import PROXY_RESET_COST, SMALL
from dataplane.wire.http2.heads import (
    StreamRequest,
    StreamResponse,
    write_request,
    write_response,
    write_trailers,
)

_NONE: Final[Fields] = []
_GRPC_STATUS: Final = b"grpc-status"
_OF_THIS_HOP: Final = frozenset(
    {
        Code.PROTOCOL_ERROR,
        Code.FLOW_CONTROL_ERROR,
        Code.SETTINGS_TIMEOUT,
        Code.STREAM_CLOSED,
        Code.FRAME_SIZE_ERROR,
        Code.REFUSED_STREAM,
        Code.COMPRESSION_ERROR,
        Code.INADEQUATE_SECURITY,
    }
)
"""Codes that say something about one connection: the other side of the proxy hears INTERNAL_ERROR."""
_OF_THE_SERVER: Final = frozenset({"", Outcome.RESET.reason})
"""Reasons of an exchange's end that say how its server fared."""


class DownstreamLink(Link):
    """A client's connection. Streams are owned by an `Exchange`, or by nobody once they are answered."""

    __slots__ = ("_added", "_extra", "_idle_since", "_of_proxy", "deadline", "gate", "serving")

    def __init__(self, serving: Serving, gate: Gate, *, of_proxy: bool = False) -> None:
        Link.__init__(self, serving.loop, serving.registry, server=True)
        self._of_proxy = of_proxy
        self.serving = serving
        self.gate = gate
        self.deadline = NEVER
        self._idle_since = serving.registry.now
        self._extra = b""
        self._added: Fields = []

    def adopt(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Become the protocol of a transport in use, of which `data` was read already."""
        transport.set_protocol(self)
        self.connection_made(transport)
        transport.resume_reading()
        if data:
            self.data_received(data)

    def added(self, way: Way) -> Fields:
        """The fields that `way` adds to a request; the same for every request of a connection, mostly."""
        if way.extra is not self._extra:
            lines = way.extra.decode("latin-1").split("\r\n")[:-1]
            split = [line.partition(": ") for line in lines]
            self._added = [(name.encode("latin-1"), value.encode("latin-1")) for name, _, value in split]
            self._extra = way.extra
        return self._added

    # --- from the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Link.connection_made(self, transport)
        if self._of_proxy:
            self.connection.reset_cost = PROXY_RESET_COST
        self.deadline = self.serving.loop.time() + self.serving.limits.client_idle
        self.serving.registry.add(self)
        if self.serving.registry.draining:
            self.drain()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True
        self.serving.registry.forget(self)
        streams, self.connection.streams = self.connection.streams, {}
        for stream in streams.values():
            stream.reset = True
            owner, stream.owner = stream.owner, None
            if owner is not None:
                owner.client_reset(Code.CANCEL)

    # --- from the registry -------------------------------------------------------------------------

    def expire(self) -> None:
        now = self.serving.registry.now
        limits = self.serving.limits
        if self.transport.is_closing():
            self.transport.abort()
            return
        streams = self.connection.streams
        if streams:
            for stream in [stream for stream in streams.values() if stream.owner is not None]:
                if stream.owner.deadline < now:
                    stream.owner.expire()
            self._idle_since = now
            self.deadline = now + limits.tick
        elif self.serving.registry.draining or self.connection.going_away:
            self.deadline = now + limits.stall
            self.connection.finish_shut_down()
            self._wake()
        elif now - max(self._idle_since, self.heard) >= limits.client_idle:
            self.deadline = now + limits.linger
            self.connection.shut_down()
            self.connection.finish_shut_down()
        else:
            self.deadline = max(self._idle_since, self.heard) + limits.client_idle

    def drain(self) -> None:
        """GOAWAY; what the client sent before it heard of it is still served."""
        self.connection.shut_down()
        self.deadline = self.serving.loop.time() + self.serving.limits.linger

    def abort(self) -> None:
        for stream in list(self.connection.streams.values()):
            owner, stream.owner = stream.owner, None
            if owner is not None:
                owner.client_reset(Code.CANCEL, SHUTDOWN)
        self.transport.abort()

    def broken(self, error: BadConnection) -> None:
        self.gate.refuse(malformed(error.fault, str(error))).series.observe(400, error.code.name.lower(), 0.0)
        self.fail(error)

    def fail(self, error: BadConnection) -> None:
        self.deadline = self.serving.loop.time() + self.serving.limits.linger
        Link.fail(self, error)

    # --- from the connection -----------------------------------------------------------------------

    def on_request(self, stream: Stream, head: StreamRequest, _end: bool) -> None:
        limits = self.serving.limits
        if self.deadline > self.heard + limits.tick:
            self.deadline = self.heard + limits.tick
        exchange = Exchange(self, stream, head)
        stream.owner = exchange
        exchange.begin()

    def on_refused(self, stream: Stream, error: BadMessage, _end: bool) -> None:
        refusal = self.gate.refuse(malformed(error.fault, str(error)))
        refusal.series.observe(refusal.reply.status, refusal.reply.reason, 0.0)
        fields, body = plain_answer(refusal.reply)
        self.answer(stream, fields, body)

    def on_malformed(self, error: BadMessage) -> None:
        refusal = self.gate.refuse(malformed(error.fault, str(error)))
        refusal.series.observe(refusal.reply.status, refusal.reply.reason, 0.0)

    def on_declined(self) -> None:
        refusal = self.gate.refuse(failed(Outcome.OVERFLOW))
        refusal.series.observe(0, refusal.reply.reason, 0.0)

    def on_data(self, stream: Stream, data: bytes, end: bool) -> bool:
        owner: Exchange | None = stream.owner
        return owner is None or owner.request_data(data, end)

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        if stream.owner is not None:
            stream.owner.request_trailers(fields)

    def on_reset(self, stream: Stream, code: int) -> None:
        owner, stream.owner = stream.owner, None
        if owner is not None:
            owner.client_reset(code, Outcome.BAD_REQUEST.reason if stream.broken else CLIENT_GONE)

    def on_sent(self, stream: Stream, size: int) -> None:
        if stream.owner is not None:
            stream.owner.response_sent(size)

    def answer(self, stream: Stream, fields: Fields, body: bytes = b"") -> None:
        """A whole answer of our own; what still comes of the request is not wanted."""
        connection = self.connection
        connection.send_head(stream, fields, end=not body)
        if body:
            connection.send_data(stream, body, end=True)
        stream.owner = None
        if stream.local_done and not stream.remote_done:
            connection.reset(stream, Code.NO_ERROR)  # RFC 9113 §8.1
        else:
            connection.credit(stream, stream.held)


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_answered",
        "_attempts",
        "_down",
        "_downloaded",
        "_grpc",
        "_grpc_status",
        "_head",
        "_kept",
        "_kept_size",
        "_request_trailers",
        "_span",
        "_stall",
        "_started",
        "_status",
        "_stream",
        "_timer",
        "_unwanted",
        "_up",
        "_up_stream",
        "_uploaded",
        "_way",
        "deadline",
    )

    def __init__(self, down: DownstreamLink, stream: Stream, head: StreamRequest) -> None:
        self._down = down
        self._stream = stream
        self._head = head
        self._started = perf_counter()
        self._way: Way | None = None
        self._up: UpstreamLink | None = None
        self._up_stream: Stream | None = None
        self._unwanted: frozenset[bytes] = frozenset()
        self._kept: list[bytes] | None = []
        self._kept_size = 0
        self._request_trailers: Fields | None = None
        self._answered = False
        self._status = 0
        self._grpc_status = ""
        self._uploaded = 0  # bytes of the request's body
        self._downloaded = 0  # of the response's
        self._attempts: Attempts | None = None  # since the first that failed
        self._timer: asyncio.TimerHandle | None = None
        self._span: Span | None = None  # if it is sampled
        limits = down.serving.limits
        grpc = False
        if head.method == b"POST":
            for name, value in head.headers:
                if name == b"content-type":
                    grpc = is_grpc(value)
        self._grpc = grpc
        self._stall = limits.tunnel_idle if grpc else limits.stall
        self.deadline = down.heard + (limits.tunnel_idle if grpc else limits.response)

    # --- decision and connection -------------------------------------------------------------------

    def begin(self) -> None:
        down = self._down
        if self._grpc:
            seconds = grpc_timeout(self._head.header(b"grpc-timeout"))
            if seconds is not None:
                self._timer = down.serving.loop.call_later(seconds, self._too_late)
        try:
            decision = down.gate.decide(self._head)
        except BadMessage as error:
            self._answer(down.gate.refuse(malformed(error.fault, str(error))))
            return
        tracer = down.serving.tracer
        if tracer is not None:
            self._head.look_for_trace()
            self._span = tracer.begin(self._head)
        if type(decision) is Way:
            self._go(decision)
        elif isinstance(decision, Coroutine):
            down.serving.tasks.start("decide", self._decided(decision))
        else:
            self._act(decision)

    async def _decided(self, decision: Coroutine[Any, Any, Decision]) -> None:
        settled = await decision
        if self._waits:
            self._act(settled)

    @property
    def _waits(self) -> bool:
        """Nobody has answered or left meanwhile."""
        return self._stream.owner is self and self._up is None

    def _act(self, decision: Decision) -> None:
        if isinstance(decision, Way):
            self._go(decision)
        elif isinstance(decision, Refusal):
            self._answer(decision)
        else:
            self._answer(self._down.gate.refuse(failed(Outcome.NOT_IMPLEMENTED, "CONNECT is for HTTP/1.1")))

    def _go(self, way: Way) -> None:
        self._way = way
        way.load.active += 1
        trunk = way.lane.trunk
        link = trunk.take()
        if link is not None:
            self.connected(link)
        else:
            trunk.wait(self, self._down.serving.tasks)

    def connected(self, link: UpstreamLink) -> None:
        way, stream, head, down = self._way, self._stream, self._head, self._down
        if way is None or stream.owner is not self or self._up is not None:
            return  # the client has gone, or could not wait
        way.load.suspect = False
        connection, kept = link.connection, self._kept or ()
        bare = stream.remote_done and not kept and self._request_trailers is None
        extra = down.added(way) if way.extra else _NONE
        fields = write_request(head, extra, way.drop, down.serving.ids.next)
        up_stream = connection.open(fields, self, end=bare, secret=head.secret)
        self._up = link
        self._up_stream = up_stream
        self._unwanted = way.drop
        if bare:
            return
        if self._kept_size > REPLAYABLE:
            self._kept = None
        last = len(kept) - 1 if stream.remote_done and self._request_trailers is None else -1
        for place, data in enumerate(kept):
            if connection.send_data(up_stream, data, end=place == last):
                self._down.connection.credit(stream, len(data))
        if self._request_trailers is not None:
            connection.send_head(up_stream, write_trailers(self._request_trailers, way.drop), end=True)

    def not_connected(self, outcome: Outcome) -> None:
        way = self._way
        if way is None or not self._waits:
            return
        avoid(way.load, self._down.serving.limits.suspect)
        other = self._another(Loss.NOT_SENT)
        if other is not None:
            self._try(Loss.NOT_SENT, other, outcome.reason)
        elif not self._hold(outcome):
            self._fail(outcome)

    # --- from the client ---------------------------------------------------------------------------

    def request_data(self, data: bytes, end: bool) -> bool:
        """Whether the bytes are on their way, or of no use."""
        self._touch()
        self._uploaded += len(data)
        kept, up_stream = self._kept, self._up_stream
        if kept is not None and (up_stream is None or not self._answered):
            self._kept_size += len(data)
            if up_stream is not None and self._kept_size > REPLAYABLE:
                self._kept = None
            elif kept and len(kept[-1]) < SMALL:
                kept[-1] += data
            elif data or end:
                kept.append(data)
        if up_stream is None:
            return self._up is not None  # then the server did not want the rest
        assert self._up is not None
        return self._up.connection.send_data(up_stream, data, end=end)

    def request_trailers(self, fields: Fields) -> None:
        self._request_trailers = fields
        if self._up is not None and self._up_stream is not None:
            trailers = write_trailers(fields, self._unwanted)
            self._up.connection.send_head(self._up_stream, trailers, end=True)

    def client_reset(self, code: int, reason: str = CLIENT_GONE) -> None:
        """The client gave up this stream, broke a rule on it, or its connection is gone."""
        self._hang_up(Code.INTERNAL_ERROR if code in _OF_THIS_HOP else code)
        if self._way is not None or self._status:
            self._count(reason)
        else:
            self._left_undecided(reason)

    def request_sent(self, size: int) -> None:
        self._down.connection.credit(self._stream, size)

    # --- from the server ---------------------------------------------------------------------------

    def respond(self, head: StreamResponse, end: bool) -> None:
        way, status = self._way, head.status
        if way is None:
            return
        if status < 200:
            self._touch()
            self._down.connection.send_head(self._stream, write_response(head, way.drop_response), end=False)
            return
        if way.to_peer and (status > 501 or (end and self._grpc)) and self._peer_failed(head):
            return
        down, stream = self._down, self._stream
        self._answered = True
        self._kept = None
        self._status = status
        stream.secret = head.secret
        if self._span is not None and way.to_peer and (status >= 400 or end):
            self._span.heard(head.fields)
        if end and self._grpc:
            self._note(head.fields)
        down.connection.send_head(stream, write_response(head, way.drop_response), end=end)
        if end:
            self._complete()
        else:
            self.deadline = down.serving.registry.now + self._stall

    def response_data(self, data: bytes, end: bool) -> bool:
        self._downloaded += len(data)
        framed = self._down.connection.send_data(self._stream, data, end=end)
        if end:
            self._complete()
        else:
            self._touch()
        return framed

    def response_trailers(self, fields: Fields) -> None:
        if self._grpc:
            self._note(fields)
        drop = self._way.drop_response if self._way is not None else frozenset()
        self._down.connection.send_head(self._stream, write_trailers(fields, drop), end=True)
        self._complete()

    def response_sent(self, size: int) -> None:
        if self._up is not None and self._up_stream is not None:
            self._up.connection.credit(self._up_stream, size)

    def server_reset(self, code: int, broken: bool) -> None:
        """The server gave up this stream, or broke a rule on it (`broken`)."""
        self._up_stream = None
        if self._way is None:  # the answer is complete: the server does not want the rest of the request
            code = Code.NO_ERROR if code == Code.NO_ERROR else Code.CANCEL
            self._down.connection.finish(self._stream, code)
        elif broken and not self._answered:
            self._fail(Outcome.BAD_RESPONSE)
        elif code == Code.REFUSED_STREAM and not self._answered:
            self._retry(Loss.NOT_SENT, Outcome.RESET)
        elif not self._answered and (not self._grpc or code in _OF_THIS_HOP):
            self._fail(Outcome.RESET)
        else:
            self._count(TRUNCATED if self._answered else Outcome.RESET.reason)
            self._drop(Code.INTERNAL_ERROR if code in _OF_THIS_HOP or not code else code)

    def server_lost(self, outcome: Outcome, processed: bool) -> None:
        """The server's connection is gone."""
        up, self._up_stream = self._up, None
        if self._way is None:
            self._drop(Code.CANCEL)
        elif self._answered:
            self._cut_off(failed(outcome))
        elif outcome is not Outcome.RESET:
            self._fail(outcome)
        elif not processed:
            self._retry(Loss.NOT_SENT, outcome)
        else:
            self._retry(Loss.STALE if up is not None and up.reused else Loss.SENT, outcome)

    # --- time --------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Nothing has moved for too long."""
        self.deadline = NEVER
        up_stream = self._up_stream
        # What waits to be sent shows that it is the server who does not go on.
        stuck = up_stream is not None and up_stream.outbox
        asked_for = Outcome.REQUEST_TIMEOUT
        if stuck or self._stream.remote_done:
            asked_for = Outcome.RESPONSE_TIMEOUT
        self._give_up(asked_for)

    def _too_late(self) -> None:
        """The deadline that the client set (`grpc-timeout`) has passed."""
        self._timer = None
        self._give_up(Outcome.DEADLINE)

    def _give_up(self, outcome: Outcome) -> None:
        self._hang_up(Code.CANCEL)
        if self._way is None and self._status:  # answered; only the request still dribbles in
            self._drop(Code.CANCEL)
        elif self._answered:
            if outcome is Outcome.DEADLINE:
                reason = outcome.reason
            else:  # has the server stopped, or was it stopped?
                reason = CLIENT_GONE if self._stream.outbox else TRUNCATED
            self._cut_off(failed(outcome), reason)
        else:
            self._fail(outcome)

    def _touch(self) -> None:
        self.deadline = self._down.serving.registry.now + self._stall

    # --- failures ----------------------------------------------------------------------------------

    def _peer_failed(self, head: StreamResponse) -> bool:
        """Try elsewhere if the peer's proxy says that its app did not get, or lost, the request."""
        lost, way = peer_loss(head.fields), self._way
        if lost is None or way is None:
            return False
        loss, reason = lost
        if loss is Loss.NOT_SENT:
            avoid(way.load, self._down.serving.limits.suspect)
        other = self._another(loss)
        if other is not None:
            self._hang_up(Code.CANCEL)
            self._try(loss, other, reason)
            return True
        return loss is Loss.NOT_SENT and self._hold(Outcome.CONNECT_FAILED)

    def _retry(self, loss: Loss, outcome: Outcome) -> None:
        """After the loss of a connection, which may have been at fault alone."""
        other = self._another(loss) or (self._way if self._may_retry(loss) else None)
        if other is not None:
            self._try(loss, other, outcome.reason)
        elif loss is not Loss.NOT_SENT or not self._hold(outcome):
            self._fail(outcome)

    def _failed(self) -> Attempts:
        if self._attempts is None:
            self._attempts = Attempts()
        return self._attempts

    def _may_retry(self, loss: Loss) -> bool:
        way, replayable = self._way, self._kept is not None
        return way is not None and self._failed().may_retry(loss, self._head.method, way, replayable)

    def _another(self, loss: Loss) -> Way | None:
        way = self._way
        if way is None or not self._may_retry(loss):
            return None
        return self._failed().another(self._down.gate, way)

    def _try(self, loss: Loss, other: Way, why: str) -> None:
        way = self._way
        assert way is not None
        if self._span is not None:
            self._span.retried(perf_counter(), why, way.host, way.port)
        other = self._failed().leave(way, other, loss, self._down.serving.registry.now)
        self._up = None
        self._go(other)

    def _hold(self, outcome: Outcome) -> bool:
        """Wait for a way that is not known yet, if that may help; else it ends with `outcome`."""
        way = self._way
        if way is None or self._kept is None:
            return False
        held = self._failed().hold(self._down.gate, self._head, way)
        if held is None:
            return False
        self._hang_up(Code.CANCEL)
        self._up = None
        self._down.serving.tasks.start("hold", self._held(way, held, outcome))
        return True

    async def _held(self, way: Way, held: Coroutine[Any, Any, Way | None], outcome: Outcome) -> None:
        other = await held
        if self._way is not way or not self._waits:
            return  # the client has gone, or could not wait
        if other is None:
            self._fail(outcome)
            return
        if self._span is not None:
            self._span.retried(perf_counter(), outcome.reason, way.host, way.port)
        self._failed().waited(way, other)
        self._go(other)

    def _fail(self, outcome: Outcome) -> None:
        """Answer that the way led nowhere."""
        way, self._way = self._way, None
        reply = failed(outcome)
        if way is None:
            self._answer(self._down.gate.refuse(reply))
        else:
            way.load.active -= 1
            # The deadline was the client's, as is what it sends too slowly.
            if way.guard is not None and outcome.status >= 500 and outcome is not Outcome.DEADLINE:
                way.guard.ended(outcome.status, self._down.serving.registry.now)
            self._answer(Refusal(reply, way.series))

    def _cut_off(self, reply: Reply, reason: str = TRUNCATED) -> None:
        """End an answer that had begun so that the client cannot take it for the whole."""
        down, stream = self._down, self._stream
        if self._grpc and not stream.local_done:
            self._grpc_status = str(grpc_end(reply)[0][1], "ascii")
            down.connection.send_head(stream, grpc_end(reply), end=True)
        self._count(reason)
        self._drop(Code.NO_ERROR if stream.local_done else Code.INTERNAL_ERROR)

    # --- the end -----------------------------------------------------------------------------------

    def _answer(self, refusal: Refusal) -> None:
        """An answer of our own."""
        reply, stream = refusal.reply, self._stream
        self._stop_timer()
        self._status = reply.status
        trailers = grpc_answer(reply) if self._grpc else None
        grpc = str(trailers[2][1], "ascii") if trailers else ""
        now = perf_counter()
        self._observe_on(refusal.series, reply.status, reply.reason, grpc, now)
        if self._span is not None:
            self._span.answered(reply.header)
            self._trace(refusal.series, None, reply.reason, now, grpc)
        if stream.reset:
            return
        if trailers is not None:
            self._down.answer(stream, trailers)
        else:
            fields, body = plain_answer(reply)
            self._down.answer(stream, fields, b"" if self._head.method == b"HEAD" else body)

    def _complete(self) -> None:
        """The answer is complete; the request may still be coming in."""
        up, up_stream, stream = self._up, self._up_stream, self._stream
        if up is not None:
            up.reused = True
            up.idle_since = up.heard
        self._count("")
        if (
            up_stream is not None
            and up_stream.local_done
            and up_stream.remote_done
            and stream.local_done
            and stream.remote_done
        ):
            up_stream.owner = stream.owner = None  # nothing can come any more

    def _count(self, reason: str) -> None:
        way, self._way = self._way, None
        if self._timer is not None:
            self._stop_timer()
        if way is not None:
            way.load.active -= 1
            if way.guard is not None and reason in _OF_THE_SERVER:
                status = status_of(self._status or Outcome.RESET.status, self._grpc_status)
                way.guard.ended(status, self._down.serving.registry.now)
            now, series = perf_counter(), way.series
            took, status, grpc = now - self._started, self._status, self._grpc_status
            series.observe(status, reason, took, grpc, self._uploaded, self._downloaded)
            if now >= series.exemplar_due:
                if now >= series.example_due:
                    # A tracer shows the traces that it knows to be recorded.
                    traced = self._down.serving.tracer is not None
                    trace = "" if traced else trace_of(self._head.header)
                    series.example((status, reason, grpc), trace, took, now, time())
                tap, head = self._down.serving.tap, self._head
                if tap.active:
                    tap.see(series, head, status, reason, grpc, took)
            if self._span is not None:
                self._trace(series, way, reason, now, grpc)

    def _left_undecided(self, reason: str) -> None:
        """The exchange is over, and it is not known where it would have led to."""
        self._stop_timer()
        series, now = self._down.gate.refuse(failed(Outcome.UNKNOWN)).series, perf_counter()
        self._observe_on(series, 0, reason, "", now)
        if self._span is not None:
            self._trace(series, None, reason, now, "")

    def _observe_on(self, series: HttpSeries, status: int, reason: str, grpc: str, now: float) -> None:
        """An exchange that has no way of its own is counted and shown."""
        took = now - self._started
        series.observe(status, reason, took, grpc)
        tap = self._down.serving.tap
        if tap.active:
            tap.see(series, self._head, status, reason, grpc, took)

    def _trace(self, series: HttpSeries, way: Way | None, reason: str, now: float, grpc: str) -> None:
        """The span of the exchange ends."""
        span, self._span = self._span, None
        tracer = self._down.serving.tracer
        if span is None or tracer is None:
            return
        host, port = ("", 0) if way is None else (way.host, way.port)
        tracer.finish(
            span,
            series,
            self._head,
            self._status,
            reason,
            grpc,
            self._grpc,
            self._started,
            now,
            self._uploaded,
            self._downloaded,
            host,
            port,
        )

    def _note(self, fields: Fields) -> None:
        """Remember how a gRPC call ended."""
        for name, value in fields:
            if name == _GRPC_STATUS:
                self._grpc_status = value.decode("latin-1")

    def _hang_up(self, code: int) -> None:
        """The server need not go on."""
        stream, self._up_stream = self._up_stream, None
        if stream is not None and self._up is not None:
            stream.owner = None
            self._up.connection.reset(stream, code)

    def _drop(self, code: int) -> None:
        """The client is told that no more comes, and need not go on."""
        self._stop_timer()
        self._stream.owner = None
        self._down.connection.reset(self._stream, code)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
