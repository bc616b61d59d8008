"""One client's HTTP/1.1 connection: reads requests, has each decided, relays it, answers in order.

A `Gate` decides per request (outbound: where to; inbound: whether). Requests of one connection are
served one after the other; what comes ahead of its turn waits in a bounded buffer. No task and no
future is made for a request, except to connect or to ask the controller. Bodies are relayed as
received, and the slower side stops the faster one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from time import perf_counter, time
from typing import Any, Final, cast

from dataplane.core.outcome import Outcome, failed, malformed, render
from dataplane.core.retry import REPLAYABLE, Loss
from dataplane.core.traces import trace_of
from dataplane.serve.attempts import Attempts, peer_loss
from dataplane.serve.gate import (
    CLIENT_GONE,
    SHUTDOWN,
    TRUNCATED,
    Decision,
    Gate,
    HandOver,
    Refusal,
    Serving,
    Way,
)
from dataplane.serve.http_client import Exchange, Upstream
from dataplane.serve.pool import ConnectFailed, avoid
from dataplane.serve.registry import NEVER
from dataplane.serve.sockets import reset, stream
from dataplane.serve.tunnel import Tunnel
from dataplane.telemetry import HttpSeries
from dataplane.tracing.tracer import Span
from dataplane.wire.body import Body, Chunked, Length, UntilClose
from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import (
    RequestHead,
    ResponseHead,
    find_request,
    parse_request,
    write_request,
    write_response,
)
from dataplane.wire.inbox import Inbox

_MOST_DISCARDED: Final = 1 << 20


class _State(Enum):
    IDLE = auto()
    """Waiting for a request, or for the rest of its head."""
    WAITING = auto()
    """For a decision or a connection."""
    EXCHANGE = auto()
    """With an upstream."""
    LINGER = auto()
    """The final answer is sent; input is discarded."""
    GONE = auto()
    """Closed, or handed over."""


_IDLE: Final = _State.IDLE  # looking a member up costs as much as the rest of a comparison
_EXCHANGE: Final = _State.EXCHANGE


class Downstream(Exchange):
    """A client's connection: an asyncio.Protocol in all but name, so that it can be compiled."""

    __slots__ = (
        "_advancing",
        "_answered",
        "_attempts",
        "_blocked",
        "_body",
        "_close",
        "_discarded",
        "_downloaded",
        "_eof",
        "_gate",
        "_head",
        "_inbox",
        "_paused",
        "_payload",
        "_replayable",
        "_serving",
        "_span",
        "_started",
        "_state",
        "_status",
        "_transport",
        "_uploaded",
        "_upstream",
        "_way",
        "deadline",
    )

    def __init__(self, serving: Serving, gate: Gate) -> None:
        self._serving = serving
        self._gate = gate
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.deadline = NEVER
        self._state = _IDLE
        self._inbox = Inbox()
        self._advancing = False
        self._blocked = False  # the client does not read
        self._paused = False  # we do not read
        self._eof = False  # the client sends no more
        self._discarded = 0
        # the request being served
        self._head: RequestHead = None  # type: ignore[assignment]  # set before any use, by _begin
        self._body: Length | Chunked | None = None
        self._way: Way | None = None
        self._upstream: Upstream | None = None
        self._started = 0.0
        self._status = 0
        self._uploaded = 0  # bytes of the request's body that were sent on, if it has one
        self._downloaded = 0  # of the response's body, once it has begun
        self._answered = False  # the final response's head has been relayed
        self._close = False  # the connection ends with this exchange
        self._payload = b""  # what has gone out of the body, as long as it is all there
        self._replayable = True  # nothing but head and payload went out
        self._attempts: Attempts | None = None  # since the first that failed
        self._span: Span | None = None  # of a request that is sampled

    @property
    def protocol(self) -> asyncio.Protocol:
        """Itself, for a transport."""
        return cast("asyncio.Protocol", self)

    def adopt(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Become the protocol of a transport in use, of which `data` was read already."""
        transport.set_protocol(self.protocol)
        self.connection_made(transport)
        transport.resume_reading()
        if data:
            self.data_received(data)

    # --- from the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream(transport)
        self.deadline = self._serving.registry.now + self._serving.limits.client_idle
        self._serving.registry.add(self)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is _IDLE and self._inbox.fresh and not self._blocked and not self._advancing:
            try:
                head = find_request(data, self._serving.tracer is not None)
                if head is not None:
                    if head.end == len(data):
                        self._begin(head)
                    else:
                        self._begin_before(head, data[head.end :])
                    return
            except BadMessage as error:
                self._malformed(error)
                return
        elif state is _EXCHANGE and self._body is not None and not self._body.done:
            self._send_body(data)
            return
        elif state is _State.LINGER:
            self._discard(data)
            return
        self._inbox.add(data)
        if self._state is _IDLE:
            self._advance()
        if len(self._inbox) > self._serving.limits.buffered:
            self.pause()

    def eof_received(self) -> bool:
        self._eof = True
        if self._state in (_IDLE, _State.LINGER) and not self._blocked:
            return False
        # Half-closed: the answer is still wanted, unless the request can never be complete.
        return self._body is None or self._body.done

    def connection_lost(self, _exc: Exception | None) -> None:
        state, self._state = self._state, _State.GONE
        if state is _State.GONE:
            return
        self._serving.registry.forget(self)
        self._inbox.rest()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()
        if self._way is not None:
            self._count(self._status, CLIENT_GONE)
        elif state is _State.WAITING:
            self._left_undecided(CLIENT_GONE)

    def pause_writing(self) -> None:
        self._blocked = True
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._upstream is not None:
            self._upstream.resume_reading()
        elif self._state is _IDLE:
            self._advance()

    # --- from the registry -------------------------------------------------------------------------

    def expire(self) -> None:
        """A time-out; which one follows from where the connection stands."""
        self.deadline = NEVER
        if self._state is _IDLE and self._inbox.begun:
            self._started = perf_counter()
            self._answer(self._gate.refuse(failed(Outcome.REQUEST_TIMEOUT)), final=True)
        elif self._state is _IDLE:
            self._end()
        elif self._state is _EXCHANGE and not self._answered:
            self._give_up()
        else:
            if self._state is _EXCHANGE:  # in an answer: has the server stopped, or was it stopped?
                self._count(self._status, CLIENT_GONE if self._blocked else TRUNCATED)
            reset(self._transport)

    def drain(self) -> None:
        """Close between requests; with one under way, behind it (`_serving.registry.draining`)."""
        if self._state is _IDLE and not self._inbox:
            self._end()

    def abort(self) -> None:
        if self._way is not None:
            self._count(self._status, SHUTDOWN)
        elif self._state is _State.WAITING:
            self._left_undecided(SHUTDOWN)
        self._state = _State.LINGER
        self._transport.abort()

    # --- requests ----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Serve what is in the buffer, as far as it goes without waiting."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._inbox and self._state is _IDLE and not self._blocked:
                if not self._take_head():
                    break
        except BadMessage as error:
            self._malformed(error)
        finally:
            self._advancing = False
        if self._eof and self._state is _IDLE and not self._blocked:
            self._end()

    def _begin_before(self, head: RequestHead, rest: bytes) -> None:
        """Begin a request, behind whose head there is something already."""
        self._inbox.add(rest)
        self._begin(head)
        if len(self._inbox) > self._serving.limits.buffered:
            self.pause()

    def _take_head(self) -> bool:
        """Begin the next request; False while its head is incomplete. Raises BadMessage."""
        if not self._inbox.begun:
            self._started = perf_counter()
            self.deadline = self._serving.registry.now + self._serving.limits.request_head
        block = self._inbox.head()
        if block is None:
            return False
        self._begin(parse_request(block, self._serving.tracer is not None))
        return True

    def _begin(self, head: RequestHead) -> None:
        self._started = perf_counter()
        self._head = head
        self._body = head.body() if head.content_length else None
        self._status = 0
        self._answered = False
        self._close = head.close
        self._payload = b""
        self._replayable = True
        self._attempts = None
        decision = self._gate.decide(head)
        tracer = self._serving.tracer
        if tracer is not None:
            self._span = tracer.begin(head)
        if type(decision) is Way:  # as `_go`, which most requests need not call
            self._way = decision
            decision.load.active += 1
            upstream = decision.lane.take()
            if upstream is not None:
                self._send(decision, upstream)
            else:
                self._wait()
                self._serving.tasks.start("connect", self._connect(decision))
        elif isinstance(decision, (Way, Refusal, HandOver)):
            self._act(decision)
        else:
            self._wait()
            self._serving.tasks.start("decide", self._decided(decision))

    async def _decided(self, decision: Coroutine[Any, Any, Decision]) -> None:
        settled = await decision
        if self._state is _State.WAITING:
            self._act(settled)

    def _act(self, decision: Decision) -> None:
        if isinstance(decision, Way):
            self._go(decision)
        elif isinstance(decision, Refusal):
            self._answer(decision)
        else:
            self._hand_over(decision)

    def _go(self, way: Way) -> None:
        self._way = way
        way.load.active += 1
        upstream = way.lane.take()
        if upstream is not None:
            self._send(way, upstream)
        else:
            self._wait()
            self._serving.tasks.start("connect", self._connect(way))

    async def _connect(self, way: Way) -> None:
        try:
            upstream = await way.lane.open()
        except ConnectFailed as failure:
            avoid(way.load, self._serving.limits.suspect)
            if self._way is way and self._state is _State.WAITING:
                self._retry(Loss.NOT_SENT, failure.outcome)
            return
        way.load.suspect = False
        if self._way is way and self._state is _State.WAITING:
            self._send(way, upstream)
        else:  # the client has gone; somebody else may use it
            way.lane.give_back(upstream)

    def _wait(self) -> None:
        self._state = _State.WAITING
        self.deadline = NEVER  # both things waited for have time-outs of their own

    def _send(self, way: Way, upstream: Upstream) -> None:
        head, body = self._head, self._body
        if body is not None and self._inbox and not body.done:
            try:
                self._payload += self._inbox.body(body)
            except BadMessage as error:
                way.lane.give_back(upstream)
                self._malformed(error)
                return
        self._state = _EXCHANGE
        self._upstream = upstream
        if body is not None:
            self._uploaded = len(self._payload)
        serving = self._serving
        block = write_request(head, way.extra, way.drop, serving.ids.next, self._payload)
        complete = body is None or body.done
        limits = serving.limits
        self.deadline = serving.registry.now + (limits.response if complete else limits.stall)
        upstream.begin(self, head.method, block, complete, head.minor == 0)
        if self._paused:
            self.resume()

    def _send_body(self, data: bytes) -> None:
        body, upstream = self._body, self._upstream
        assert body is not None
        assert upstream is not None
        try:
            taken = body.take(data)
        except BadMessage as error:
            self._malformed(error)
            return
        if taken < len(data):  # the next request has begun
            self._inbox.add(data[taken:])
            data = data[:taken]
        limits = self._serving.limits
        self.deadline = self._serving.registry.now + (limits.response if body.done else limits.stall)
        if self._replayable:
            self._keep(data)
        self._uploaded += len(data)
        upstream.send(data, complete=body.done)

    def _keep(self, data: bytes) -> None:
        """Keep what was sent of the body in case it must be sent again."""
        if self._answered or len(self._payload) + len(data) > REPLAYABLE:
            self._replayable = False
            self._payload = b""
        else:
            self._payload += data

    # --- from the upstream -----------------------------------------------------------------------

    def interim(self, head: ResponseHead) -> None:
        if self._head.minor == 1 and self._way is not None:  # RFC 9110 §15.2: not to HTTP/1.0
            self._transport.write(write_response(head, b"", self._way.drop_response))

    def answer(self, head: ResponseHead, data: bytes) -> None:
        way, serving, size = self._way, self._serving, len(data) - head.end
        assert way is not None
        if serving.registry.draining or not (self._body is None or self._body.done):
            self._close = True
        if self._close or self._head.minor == 0:
            data = write_response(head, self._persistence(), way.drop_response, body=data[head.end :])
        elif not head.verbatim:
            data = write_response(head, b"", way.drop_response, False, data[head.end :])
        self._transport.write(data)
        self._way = self._upstream = None
        way.load.active -= 1
        if way.guard is not None:
            way.guard.ended(head.status, serving.registry.now)
        now = perf_counter()
        uploaded = 0 if self._body is None else self._uploaded
        way.series.observe(head.status, "", now - self._started, "", uploaded, size)
        if now >= way.series.exemplar_due:
            self._example(way.series, head.status, "", now)
        if self._span is not None:
            if way.to_peer and head.status >= 400:
                self._span.heard(head.fields)
            self._trace(way.series, way, head.status, "", now, uploaded, size)
        if self._body is not None and not self._body.done:
            self._linger()
        elif self._close:
            self._end()
        elif self._paused or self._eof or not self._inbox.fresh:
            self._next()
        else:  # what `_next` comes to then
            self._state = _IDLE
            self._body = None
            self.deadline = serving.registry.now + serving.limits.client_idle

    def _persistence(self) -> bytes:
        """The line that tells the client whether its connection goes on, where the version does not."""
        if self._close:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self._head.minor == 0 else b""

    def respond(self, head: ResponseHead, body: Body | None, data: bytes) -> bool:
        way = self._way
        assert way is not None
        if head.status > 501 and way.to_peer and self._peer_failed(head):
            return False
        self._answered = True
        self._status = head.status
        self._downloaded = len(data)
        if self._span is not None and way.to_peer and head.status >= 400:
            self._span.heard(head.fields)
        decoded = self._head.minor == 0 and isinstance(body, Chunked)
        early = self._body is not None and not self._body.done  # the rest of the request may never be read
        if early or decoded or self._serving.registry.draining or isinstance(body, UntilClose):
            self._close = True
        block = write_response(head, self._persistence(), way.drop_response, decoded, data)
        self.deadline = self._serving.registry.now + self._serving.limits.stall
        self._transport.write(block)
        return True

    def relay(self, data: bytes) -> None:
        self._downloaded += len(data)
        self.deadline = self._serving.registry.now + self._serving.limits.stall
        self._transport.write(data)

    def completed(self) -> None:
        self._upstream = None
        self._count(self._status, "")
        if self._body is not None and not self._body.done:
            self._linger()
        elif self._close:
            self._end()
        else:
            self._next()

    def switched(self, head: ResponseHead, data: bytes) -> None:
        way, upstream = self._way, self._upstream
        assert way is not None
        assert upstream is not None
        if self._head.upgrade is None or (self._body is not None and not self._body.done):
            upstream.abandon()
            self.lost(Outcome.BAD_RESPONSE)
            return
        self._transport.write(write_response(head, b"", way.drop_response))
        self._status = 101
        self._observe(101, "")
        if self._span is not None:
            self._trace(way.series, way, 101, "", perf_counter(), 0, 0)
        self._way = self._upstream = None
        way.load.active -= 1
        tunnel = Tunnel(self._serving.registry, self._serving.limits, _not_counted)
        tunnel.weigh_on(way.load)
        early, transport = self._inbox.rest(), self._leave()
        tunnel.client.adopt(transport, early)
        if self._eof:
            tunnel.client.eof_received()
        tunnel.server.adopt(upstream.release(), data)

    def lost(self, outcome: Outcome) -> None:
        upstream, self._upstream = self._upstream, None
        if self._answered:  # the client must not take what it has for the whole
            self._count(self._status, TRUNCATED)
            reset(self._transport)
            return
        assert upstream is not None
        if upstream.answered or outcome is not Outcome.RESET:
            self._fail(outcome)
        elif upstream.unseen:
            upstream.lane.close()  # its siblings went the same way
            self._retry(Loss.NOT_SENT, outcome, reconnect=True)
        elif upstream.reused:
            upstream.lane.close()
            self._retry(Loss.STALE, outcome)
        else:
            self._retry(Loss.SENT, outcome)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, unless enough is waiting already."""
        if self._paused and len(self._inbox) <= self._serving.limits.buffered and not self._eof:
            self._paused = False
            self._transport.resume_reading()

    # --- failures ----------------------------------------------------------------------------------

    def _peer_failed(self, head: ResponseHead) -> bool:
        """Try elsewhere if the peer's proxy says that its app did not get, or lost, the request."""
        lost, way = peer_loss(head.fields), self._way
        if lost is None or way is None:
            return False
        loss, reason = lost
        if loss is Loss.NOT_SENT:
            avoid(way.load, self._serving.limits.suspect)
        other = self._failed().another(self._gate, way) if self._may_retry(loss, way) else None
        if other is not None:
            self._try(loss, other, reason)
            return True
        return loss is Loss.NOT_SENT and self._hold(way, Outcome.CONNECT_FAILED)

    def _retry(self, loss: Loss, outcome: Outcome, *, reconnect: bool = False) -> None:
        """`reconnect`: the connection was at fault, not the server."""
        way = self._way
        assert way is not None
        if self._may_retry(loss, way):
            other = self._failed().another(self._gate, way)
            if other is None and (reconnect or loss is not Loss.NOT_SENT):
                other = way  # there is only this server: the connection was at fault, perhaps
            if other is not None:
                self._try(loss, other, outcome.reason)
                return
        if loss is not Loss.NOT_SENT or not self._hold(way, outcome):
            self._fail(outcome)

    def _failed(self) -> Attempts:
        if self._attempts is None:
            self._attempts = Attempts()
        return self._attempts

    def _may_retry(self, loss: Loss, way: Way) -> bool:
        return self._failed().may_retry(loss, self._head.method, way, self._replayable)

    def _try(self, loss: Loss, other: Way, why: str) -> None:
        way = self._way
        assert way is not None
        if self._span is not None:
            self._span.retried(perf_counter(), why, way.host, way.port)
        other = self._failed().leave(way, other, loss, self._serving.registry.now)
        self._upstream = None
        self._go(other)

    def _hold(self, way: Way, outcome: Outcome) -> bool:
        """Wait for a way that is not known yet, if that may help; else it ends with `outcome`."""
        held = self._failed().hold(self._gate, self._head, way) if self._replayable else None
        if held is None:
            return False
        self._upstream = None
        self._wait()
        self._serving.tasks.start("hold", self._held(way, held, outcome))
        return True

    async def _held(self, way: Way, held: Coroutine[Any, Any, Way | None], outcome: Outcome) -> None:
        other = await held
        if self._way is not way or self._state is not _State.WAITING:
            return  # the client has gone
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
        assert way is not None
        way.load.active -= 1
        if way.guard is not None and outcome.status >= 500:
            way.guard.ended(outcome.status, self._serving.registry.now)
        self._answer(Refusal(failed(outcome), way.series))

    def _give_up(self) -> None:
        """The exchange took too long before it had an answer."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()
        waiting_for_client = self._body is not None and not self._body.done and not self._paused
        self._fail(Outcome.REQUEST_TIMEOUT if waiting_for_client else Outcome.RESPONSE_TIMEOUT)

    def _malformed(self, error: BadMessage) -> None:
        """The client's bytes make no sense: answer if there is still room for an answer, and close."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()
        reply = malformed(error.fault, str(error))
        if self._answered and self._way is not None:
            self._count(self._status, reply.reason)
            reset(self._transport)
            return
        way, self._way = self._way, None
        if way is not None:
            way.load.active -= 1
        refusal = self._gate.refuse(reply)
        self._answer(refusal if way is None else Refusal(refusal.reply, way.series), final=True)

    # --- answers of our own and the end ----------------------------------------------------------------

    def _answer(self, refusal: Refusal, *, final: bool = False) -> None:
        """Send an answer of our own. `final`: what follows in the input makes no sense."""
        reply, head = refusal.reply, self._head
        body = None if final else self._body
        if body is not None and not body.done and self._inbox:
            try:
                self._inbox.body(body)  # a small body is here already: the connection can go on
            except BadMessage:
                final = True
        unread = final or (body is not None and not body.done)
        close = unread or reply.close or self._close or self._serving.registry.draining
        now = perf_counter()
        took = now - self._started
        refusal.series.observe(reply.status, reply.reason, took)
        if self._span is not None:
            self._span.answered(reply.header)
            self._trace(refusal.series, None, reply.status, reply.reason, now, 0, 0)
        if not final and self._serving.tap.active:
            status, reason = reply.status, reply.reason
            self._serving.tap.see(refusal.series, head, status, reason, "", took)
        old = not final and head.minor == 0
        head_only = not final and head.method == b"HEAD"
        self._transport.write(render(reply, close=close, keep_alive=old, head_only=head_only))
        if unread:
            self._linger()
        elif close:
            self._end()
        else:
            self._next()

    def _next(self) -> None:
        """Ready for another request."""
        serving = self._serving
        self._state = _IDLE
        self._body = None
        self.deadline = serving.registry.now + serving.limits.client_idle
        if self._paused:
            self.resume()
        if not self._inbox.fresh or self._eof:
            self._advance()

    def _end(self) -> None:
        """Close as soon as what was written has gone out, within the time a stalled client gets."""
        self._state = _State.LINGER
        self.deadline = self._serving.registry.now + self._serving.limits.stall
        self._transport.close()

    def _linger(self) -> None:
        """Close, but let the client read the answer first: unread input would make the close a reset."""
        self._state = _State.LINGER
        self._inbox.rest()
        if self._eof or self._transport.is_closing():
            self._end()
            return
        self.deadline = self._serving.registry.now + self._serving.limits.linger
        self._transport.write_eof()
        self._paused = False
        self._transport.resume_reading()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _MOST_DISCARDED:
            self._transport.abort()

    def _hand_over(self, decision: HandOver) -> None:
        self._observe_on(decision.series, 200, "")
        self._transport.write(decision.reply)
        early = self._inbox.rest()
        decision.take(self._leave(), early)

    def _leave(self) -> asyncio.Transport:
        """This protocol has nothing to do with the connection any more."""
        self._state = _State.GONE
        self._serving.registry.forget(self)
        return self._transport

    def _count(self, status: int, reason: str) -> None:
        """The exchange is over."""
        way, self._way = self._way, None
        if way is not None:
            way.load.active -= 1
            if way.guard is not None and not reason:
                way.guard.ended(status, self._serving.registry.now)
            now = perf_counter()
            uploaded = 0 if self._body is None else self._uploaded
            downloaded = self._downloaded if self._answered else 0
            way.series.observe(status, reason, now - self._started, "", uploaded, downloaded)
            if now >= way.series.exemplar_due:
                self._example(way.series, status, reason, now)
            if self._span is not None:
                self._trace(way.series, way, status, reason, now, uploaded, downloaded)

    def _left_undecided(self, reason: str) -> None:
        """The exchange is over, and it is not known where it would have led to."""
        series = self._gate.refuse(failed(Outcome.UNKNOWN)).series
        self._observe_on(series, 0, reason)
        if self._span is not None:
            self._trace(series, None, 0, reason, perf_counter(), 0, 0)

    def _example(self, series: HttpSeries, status: int, reason: str, now: float) -> None:
        """Have the metrics show the request's trace, if it says of which it is part, and who looks on all."""
        if now >= series.example_due:
            # A tracer shows the traces that it knows to be recorded.
            trace = trace_of(self._head.header) if self._serving.tracer is None else ""
            series.example((status, reason, ""), trace, now - self._started, now, time())
        tap = self._serving.tap
        if tap.active:
            tap.see(series, self._head, status, reason, "", now - self._started)

    def _trace(
        self,
        series: HttpSeries,
        way: Way | None,
        status: int,
        reason: str,
        now: float,
        uploaded: int,
        downloaded: int,
    ) -> None:
        """The span of the exchange ends."""
        span, self._span = self._span, None
        tracer = self._serving.tracer
        if span is None or tracer is None:
            return
        host, port = ("", 0) if way is None else (way.host, way.port)
        head, began = self._head, self._started
        tracer.finish(
            span, series, head, status, reason, "", False, began, now, uploaded, downloaded, host, port
        )

    def _observe(self, status: int, reason: str) -> None:
        if self._way is not None:
            self._observe_on(self._way.series, status, reason)

    def _observe_on(self, series: HttpSeries, status: int, reason: str) -> None:
        """An exchange that has no way of its own, or becomes a tunnel, is counted and shown at once."""
        took = perf_counter() - self._started
        series.observe(status, reason, took)
        tap = self._serving.tap
        if tap.active:
            tap.see(series, self._head, status, reason, "", took)


def _not_counted(_sent: int, _received: int, _reason: str) -> None:
    """An upgraded exchange was counted as a request when it switched."""
