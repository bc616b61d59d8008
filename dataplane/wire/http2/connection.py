"""One side of an HTTP/2 connection: streams, windows, limits. No sockets, no clock of its own.

Bytes of the peer go into `receive`, which calls a `Handler`; what is to be sent gathers until `take`.
States of a stream (RFC 9113 §5.1), kept as two flags because every rule asks for one of them:

| state              | local_done | remote_done | received                     | we may send        |
|--------------------|------------|-------------|------------------------------|--------------------|
| idle               | not in `streams`, id above the last | HEADERS (server only) | HEADERS (client)   |
| open               | no         | no          | DATA, HEADERS, RST_STREAM    | the same           |
| half-closed local  | yes        | no          | DATA, HEADERS, RST_STREAM    | RST_STREAM, credit |
| half-closed remote | no         | yes         | RST_STREAM                   | DATA, HEADERS, RST |
| closed             | not in `streams`, id not above the last | nothing               | nothing            |

WINDOW_UPDATE and PRIORITY are taken in every state but idle; what the peer sent on a stream before it
heard of our RST_STREAM is ignored.

Memory is bounded by windows: received bytes count against them until the owner gives credit, which
it does once they are on their way to the next hop. `sender` has the other direction, `bounds` the
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dataplane.wire.errors import BadMessage, Fault
from dataplane.wire.http1 import MAX_INTERIMS
from dataplane.wire.http2 import frames
from dataplane.wire.http2.bounds import (
    ASSUMED_STREAMS,
    CONNECTION_WINDOW,
    FRAME_SIZE,
    LAST_OPENED,
    LEAST_WINDOW,
    MAX_BLOCK,
    MAX_CONTINUATIONS,
    MAX_LIST,
    MAX_STREAMS,
    MAX_UPDATES,
    MOST_STREAMS,
    REMEMBERED,
    RESET_COST,
    SETTINGS_COST,
    STREAM_WINDOW,
    SUBSTANTIAL,
    Allowance,
)
from dataplane.wire.http2.fields import Pair
from dataplane.wire.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    LARGEST_WINDOW,
    LAST_STREAM,
    PADDED,
    PREFACE,
    PRIORITISED,
    BadConnection,
    Code,
)
from dataplane.wire.http2.heads import read_request, read_response, read_trailers
from dataplane.wire.http2.hpack import NOTHING, Block, Reader
from dataplane.wire.http2.sender import Sender
from dataplane.wire.http2.stream import Handler, Stream

_DRAIN_PING: Final = b"smi-mesh"
_MORE_THAN_FIELDS: Final = PADDED | PRIORITISED


class Connection(Sender):
    """One side."""

    def __init__(self, handler: Handler, wake: Callable[[], None], *, server: bool, now: float) -> None:
        Sender.__init__(self, handler, wake)
        self.going_away = False
        """No new streams: one side said so."""
        self.peer_streams = MOST_STREAMS if server else ASSUMED_STREAMS
        """Streams the peer bears at once."""
        self.reset_cost = RESET_COST
        """Server: what a client pays for a request that it withdraws."""
        self._server = server
        self._last = 0  # highest stream of the client
        self._last_accepted = LAST_STREAM  # streams above are not served (graceful shut-down)
        self._draining = False
        self._parts: list[bytes] = []
        self._have = 0
        self._need = len(PREFACE) if server else HEADER_SIZE
        self._preface = server
        self._settled = False  # the peer's SETTINGS have come
        self._between = False  # any frame may come: settled, and no field block goes on
        self._block: list[bytes] | None = None  # pieces of a field block that goes on
        self._block_of = (0, 0)
        self._reader = Reader(2 * MAX_LIST)
        self._receive_window = CONNECTION_WINDOW
        self._owed = 0
        self._initial_window = frames.DEFAULT_WINDOW
        self._ended_by_us: dict[int, None] = {}
        self._allowance = Allowance(now)
        self._now = now
        self._introduce()

    # --- sending -----------------------------------------------------------------------------------

    @property
    def can_open(self) -> bool:
        """Client: whether another stream may be opened."""
        return not self.going_away and len(self.streams) < self.peer_streams and self._last < LAST_OPENED

    @property
    def crowded(self) -> bool:
        """Client: stuck streams hold half of what may be received, or all that may be sent."""
        return self._send_window < LEAST_WINDOW or self._receive_window + self._owed < CONNECTION_WINDOW // 2

    def open(
        self, fields: list[Pair], owner: object, *, end: bool, secret: frozenset[bytes] = NOTHING
    ) -> Stream:
        """Client: send a request's head, its method first, on a new stream. `secret`: as `Stream.secret`."""
        number = self._last = self._last + 2 if self._last else 1
        stream = Stream(number, self._initial_window)
        stream.owner = owner
        stream.secret = secret
        stream.bodiless = fields[0][1] == b"HEAD"
        self.streams[number] = stream
        self._send_fields(stream, fields, end)
        return stream

    def credit(self, stream: Stream, size: int) -> None:
        """So many received bytes of the stream are on their way: the peer may send as many more.

        More than was received is not believed: bytes sent again on a retry were credited before.
        """
        size = min(size, stream.held)
        if size and not stream.reset:
            stream.held -= size
            self._owe(stream, size)

    def _owe(self, stream: Stream, size: int) -> None:
        self._owed += size
        if self._owed >= CONNECTION_WINDOW // 4:
            self._repay(0)
        if stream.remote_done:
            return
        stream.owed += size
        if stream.owed >= STREAM_WINDOW // 2:
            stream.receive_window += stream.owed
            self._emit(frames.window_update(stream.id, stream.owed))
            stream.owed = 0

    def reset(self, stream: Stream, code: int) -> None:
        """Give a stream up. Its owner is not told, and owes no credit any more."""
        if stream.reset:
            return
        if self.streams.get(stream.id) is not stream:  # closed: only the connection's window is concerned
            self._repay(stream.held)
            stream.held = 0
            return
        self._emit(frames.rst_stream(stream.id, code))
        if not stream.remote_done:
            self._ended_by_us[stream.id] = None
            if len(self._ended_by_us) > REMEMBERED:
                del self._ended_by_us[next(iter(self._ended_by_us))]
        self._forget(stream)

    def finish(self, stream: Stream, code: int) -> None:
        """Want no more of the peer: as `reset`, but what is queued goes out first."""
        if stream.local_done or not stream.end_queued:
            self.reset(stream, code)
        else:
            stream.last_word = code
            self.credit(stream, stream.held)

    def ping(self) -> None:
        """Ask for a sign of life; `on_pong` brings it."""
        self._emit(frames.frame(frames.PING, 0, 0, b"liveness"))

    def shut_down(self) -> None:
        """Server: take no new streams, but let the client learn that first (RFC 9113 §6.8)."""
        if not self._draining:
            self._draining = True
            self._emit(frames.goaway(LAST_STREAM, Code.NO_ERROR))
            self._emit(frames.frame(frames.PING, 0, 0, _DRAIN_PING))

    def finish_shut_down(self) -> None:
        """The second half of `shut_down`: from here new streams are refused."""
        if not self.going_away:
            self.going_away = True
            self._last_accepted = self._last
            self._emit(frames.goaway(self._last, Code.NO_ERROR))

    def fail(self, code: int) -> None:
        """Say why the connection ends; nothing may follow."""
        self.going_away = True
        self._emit(frames.goaway(self._last if self._server else 0, code))

    # --- receiving ---------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes of the peer; `now`: a monotonic clock in seconds. Raises BadConnection, then is of no use."""
        self._now = now
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts = []
        at, size = 0, len(data)
        if self._preface:
            if size < len(PREFACE):
                if not PREFACE.startswith(data):
                    raise BadConnection(Code.PROTOCOL_ERROR, "the connection preface is missing")
                self._keep(data, len(PREFACE))
                return
            if not data.startswith(PREFACE):
                raise BadConnection(Code.PROTOCOL_ERROR, "the connection preface is missing")
            self._preface = False
            at = len(PREFACE)
        need = HEADER_SIZE
        while size - at >= HEADER_SIZE:
            upper, lower, kind, flags, number = HEADER.unpack_from(data, at)
            length = (upper << 8) | lower
            if length > FRAME_SIZE:
                raise BadConnection(Code.FRAME_SIZE_ERROR, "a frame is larger than was agreed")
            end = at + HEADER_SIZE + length
            if end > size:
                need = HEADER_SIZE + length
                break
            payload = data[at + HEADER_SIZE : end]
            if self._between:
                if kind == DATA:
                    self._on_data(flags, number & LAST_STREAM, payload)
                elif kind == HEADERS:
                    self._on_headers(flags, number & LAST_STREAM, payload)
                else:
                    self._on_other(kind, flags, number & LAST_STREAM, payload)
            else:
                self._on_first(kind, flags, number & LAST_STREAM, payload)
            at = end
        if at < size:
            self._keep(data[at:], need)

    def _keep(self, data: bytes, need: int) -> None:
        if data:
            self._parts = [data]
            self._have = len(data)
            self._need = need

    def _on_first(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A frame at the beginning of the connection, or behind a field block that goes on."""
        if self._block is not None:
            if kind != frames.CONTINUATION:
                raise BadConnection(Code.PROTOCOL_ERROR, "a field block is interrupted")
            self._on_continuation(flags, number, payload)
        elif kind == frames.SETTINGS and not flags & ACK:
            self._on_settings(flags, number, payload)
        else:
            raise BadConnection(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _on_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._on_window_update(number, payload)
        elif kind in _RARE:
            _RARE[kind](self, flags, number, payload)
        else:  # RFC 9113 §4.1: unknown types are ignored
            self._spend(1.0)

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        stream = self.streams.get(number)
        whole = len(payload)
        self._receive_window -= whole
        if self._receive_window < 0:
            raise BadConnection(Code.FLOW_CONTROL_ERROR, "more than the connection's window was sent")
        data = frames.unpadded(payload, flags) if flags & PADDED else payload
        if stream is None or stream.remote_done:
            self._repay(whole)
            self._late(number, stream, whole)
            return
        stream.receive_window -= whole
        if stream.receive_window < 0:
            self._repay(whole)
            self._break(stream, Code.FLOW_CONTROL_ERROR)
            return
        size = len(data)
        if size < whole:
            self._owe(stream, whole - size)
        end = flags & END_STREAM != 0
        if stream.expected >= 0:
            stream.expected -= size
            if stream.expected < 0 or (end and stream.expected):
                self._repay(size)
                self._break(stream, Code.PROTOCOL_ERROR)
                return
        if not stream.headed:
            self._repay(size)
            self._break(stream, Code.PROTOCOL_ERROR)
            return
        if end:
            stream.remote_done = True
            if stream.local_done:
                self.streams.pop(number, None)
        elif not size:
            self._spend(1.0)
        stream.held += size
        if self._handler.on_data(stream, data, end) and size <= stream.held and not stream.reset:
            stream.held -= size
            self._owe(stream, size)

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number or (self._server and not number & 1):
            raise BadConnection(Code.PROTOCOL_ERROR, "HEADERS on a stream that a client cannot open")
        if flags & _MORE_THAN_FIELDS:
            payload = _fields_of(flags, number, payload)
        if flags & END_HEADERS:
            self._on_block(number, flags & END_STREAM != 0, payload)
        else:
            self._between = False
            self._block = [payload]
            self._block_of = (number, flags)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._block
        if block is None or number != self._block_of[0]:
            raise BadConnection(Code.PROTOCOL_ERROR, "CONTINUATION without a field block to continue")
        block.append(payload)
        if len(block) > MAX_CONTINUATIONS or sum(map(len, block)) > MAX_BLOCK:
            raise BadConnection(Code.ENHANCE_YOUR_CALM, "a field block is too large")
        if flags & END_HEADERS:
            self._block = None
            self._between = True
            self._on_block(number, bool(self._block_of[1] & END_STREAM), b"".join(block))

    def _on_block(self, number: int, end: bool, block: bytes) -> None:
        """A whole field block. It is decoded in any case: the table must stay in step."""
        fields = self._reader.read(block)
        stream = self.streams.get(number)
        if stream is None:
            if not self._server or number <= self._last:
                self._late(number, None, 0, block=True)
            else:
                self._on_new(number, fields, end)
        elif stream.remote_done:
            self._break(stream, Code.STREAM_CLOSED)
        elif stream.headed:
            self._on_trailers(stream, fields, end)
        else:
            self._on_answer(stream, fields, end)

    def _on_new(self, number: int, fields: Block, end: bool) -> None:
        """A request."""
        self._last = number
        if number > self._last_accepted:
            return  # RFC 9113 §6.8: the client knows that it is ignored
        stream = Stream(number, self._initial_window)
        if len(self.streams) >= MAX_STREAMS:
            self._spend(1.0)
            self._refuse(stream, Code.REFUSED_STREAM)
            self._handler.on_declined()
            return
        stream.headed = True
        try:
            head = read_request(fields)
            if end and head.content_length > 0:
                raise BadMessage("the content-length announces a body that does not come")
        except BadMessage as error:
            if error.fault is not Fault.TOO_LARGE:
                self._spend(RESET_COST)
                self._refuse(stream, Code.PROTOCOL_ERROR)
                self._handler.on_malformed(error)
                return
            stream.remote_done = end
            self.streams[number] = stream
            self._handler.on_refused(stream, error, end)
            return
        stream.expected = head.content_length
        stream.remote_done = end
        self.streams[number] = stream
        self._handler.on_request(stream, head, end)

    def _on_answer(self, stream: Stream, fields: Block, end: bool) -> None:
        """A response."""
        try:
            head = read_response(fields)
            if head.status < 200:
                stream.interims += 1
                if end or head.status == 101 or stream.interims > MAX_INTERIMS:
                    raise BadMessage("an interim response that cannot be, or one too many")
            elif stream.bodiless or head.status == 204 or head.status == 304:
                stream.expected = 0  # whatever the length it names (RFC 9110 §8.6)
            elif head.content_length is not None:
                stream.expected = head.content_length
                if end and stream.expected:
                    raise BadMessage("the content-length announces a body that does not come")
        except BadMessage:
            self._break(stream, Code.PROTOCOL_ERROR)
            return
        if head.status >= 200:
            stream.headed = True
        if end:
            self._remote_end(stream)
        self._handler.on_response(stream, head, end)

    def _on_trailers(self, stream: Stream, fields: Block, end: bool) -> None:
        try:
            trailers = read_trailers(fields)
        except BadMessage:
            end = False
        if not end or stream.expected > 0:
            self._break(stream, Code.PROTOCOL_ERROR)
            return
        self._remote_end(stream)
        self._handler.on_trailers(stream, trailers)

    def _on_priority(self, _flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise BadConnection(Code.PROTOCOL_ERROR, "PRIORITY needs a stream")
        self._spend(1.0)
        stream = self.streams.get(number)
        if len(payload) != 5:
            if stream is None:
                raise BadConnection(Code.FRAME_SIZE_ERROR, "PRIORITY has five octets")
            self._break(stream, Code.FRAME_SIZE_ERROR)
        elif stream is not None and int.from_bytes(payload[:4], "big") & LAST_STREAM == number:
            self._break(stream, Code.PROTOCOL_ERROR)

    def _on_rst_stream(self, _flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise BadConnection(Code.FRAME_SIZE_ERROR, "RST_STREAM has four octets")
        stream = self.streams.get(number)
        if stream is None:
            self._spend(1.0)
            self._never_idle(number)
            return
        if self._answered:
            self._answered -= 1
        elif self._server:
            self._spend(self.reset_cost)
        self._forget(stream)
        self._handler.on_reset(stream, int.from_bytes(payload, "big"))

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise BadConnection(Code.PROTOCOL_ERROR, "SETTINGS are for the connection")
        if flags & ACK:
            if payload:
                raise BadConnection(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS has no payload")
            return
        if len(payload) % 6:
            raise BadConnection(Code.FRAME_SIZE_ERROR, "SETTINGS come in six octets each")
        if self._settled:
            self._spend(SETTINGS_COST)
        elif not self._server:
            self.peer_streams = MOST_STREAMS  # RFC 9113 §6.5.2: without a word, no limit
        for at in range(0, len(payload), 6):
            self._set(*frames.SETTING.unpack_from(payload, at))
        self._emit(frames.frame(frames.SETTINGS, ACK, 0))
        self._settled = self._between = True
        self._handler.on_settings()
        self.pump()

    def _set(self, name: int, value: int) -> None:
        """One setting of the peer (RFC 9113 §6.5.2)."""
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise BadConnection(Code.FLOW_CONTROL_ERROR, "the initial window is too large")
            change = value - self._initial_window
            self._initial_window = value
            for stream in self.streams.values():
                stream.send_window += change
                if stream.send_window > LARGEST_WINDOW:
                    raise BadConnection(Code.FLOW_CONTROL_ERROR, "a stream's window grows too large")
                if stream.outbox:
                    self._waiting[stream] = None
        elif name == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                raise BadConnection(Code.PROTOCOL_ERROR, "the largest frame is out of range")
            self._largest = min(value, FRAME_SIZE)
        elif name == frames.HEADER_TABLE_SIZE:
            self._writer.limit_table(value)
        elif name == frames.MAX_CONCURRENT_STREAMS:
            self.peer_streams = min(value, MOST_STREAMS)
        elif name == frames.ENABLE_PUSH and (value > 1 or (value and not self._server)):
            raise BadConnection(Code.PROTOCOL_ERROR, "ENABLE_PUSH has a value that it must not have")

    def _on_push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise BadConnection(Code.PROTOCOL_ERROR, "pushed streams were not agreed to")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise BadConnection(Code.PROTOCOL_ERROR, "PING is for the connection")
        if len(payload) != 8:
            raise BadConnection(Code.FRAME_SIZE_ERROR, "PING has eight octets")
        if not flags & ACK:
            # gRPC measures its round trips by a PING when DATA has come, hundreds a second: one each is free.
            if self._probed:
                self._spend(1.0)
            self._probed = True
            self._emit(frames.frame(frames.PING, ACK, 0, payload))
        elif payload == _DRAIN_PING and self._draining:
            self.finish_shut_down()
            self._handler.on_drained()
        else:
            self._handler.on_pong()

    def _on_goaway(self, _flags: int, number: int, payload: bytes) -> None:
        if number:
            raise BadConnection(Code.PROTOCOL_ERROR, "GOAWAY is for the connection")
        if len(payload) < 8:
            raise BadConnection(Code.FRAME_SIZE_ERROR, "GOAWAY has at least eight octets")
        self._spend(1.0)
        self.going_away = True
        if not self._server:
            self._handler.on_goaway(int.from_bytes(payload[:4], "big") & LAST_STREAM)

    def _on_window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise BadConnection(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four octets")
        increment = int.from_bytes(payload, "big") & LARGEST_WINDOW
        self._updates += 1
        if self._updates > MAX_UPDATES:
            raise BadConnection(Code.ENHANCE_YOUR_CALM, "window updates without end")
        if not number:
            if not increment:
                raise BadConnection(Code.PROTOCOL_ERROR, "a window update by nothing")
            self._send_window += increment
            if self._send_window > LARGEST_WINDOW:
                raise BadConnection(Code.FLOW_CONTROL_ERROR, "the connection's window grows too large")
            self.pump()
            return
        stream = self.streams.get(number)
        if stream is None:
            self._never_idle(number)
            return
        stream.send_window += increment
        if not increment:
            self._break(stream, Code.PROTOCOL_ERROR)
        elif stream.send_window > LARGEST_WINDOW:
            self._break(stream, Code.FLOW_CONTROL_ERROR)
        elif stream.outbox:
            self._waiting[stream] = None
            self.pump()

    # --- rules on streams --------------------------------------------------------------------------

    def _late(self, number: int, stream: Stream | None, size: int, *, block: bool = False) -> None:
        """DATA of `size` bytes or a field block where none can come any more."""
        if stream is not None:
            self._break(stream, Code.STREAM_CLOSED)
            return
        self._never_idle(number)
        ended_by_us = number in self._ended_by_us
        if not ended_by_us or size < SUBSTANTIAL:
            self._spend(1.0)
        if ended_by_us:
            return  # sent before our RST_STREAM arrived
        if block:
            raise BadConnection(Code.STREAM_CLOSED, "HEADERS on a closed stream")
        self._emit(frames.rst_stream(number, Code.STREAM_CLOSED))

    def _never_idle(self, number: int) -> None:
        if not number or number > self._last or not number & 1:
            raise BadConnection(Code.PROTOCOL_ERROR, "a frame on an idle stream")

    def _break(self, stream: Stream, code: Code) -> None:
        """The peer broke a rule that only costs it this stream."""
        if self._server:
            self._spend(RESET_COST)
        stream.broken = True
        self.reset(stream, code)
        self._handler.on_reset(stream, code)

    def _refuse(self, stream: Stream, code: Code) -> None:
        """A stream that never comes into being."""
        self._emit(frames.rst_stream(stream.id, code))
        if not stream.remote_done:
            self._ended_by_us[stream.id] = None
            if len(self._ended_by_us) > REMEMBERED:
                del self._ended_by_us[next(iter(self._ended_by_us))]

    def _remote_end(self, stream: Stream) -> None:
        stream.remote_done = True
        if stream.local_done:
            self.streams.pop(stream.id, None)

    def _forget(self, stream: Stream) -> None:
        stream.reset = True
        self.streams.pop(stream.id, None)
        self._waiting.pop(stream, None)
        stream.outbox = None
        self._repay(stream.held)
        stream.held = 0

    def _spend(self, cost: float) -> None:
        self._allowance.spend(cost, self._now)

    # --- frames ------------------------------------------------------------------------------------

    def _introduce(self) -> None:
        values = [
            (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frames.MAX_FRAME_SIZE, FRAME_SIZE),
            (frames.MAX_HEADER_LIST_SIZE, MAX_LIST),
        ]
        if self._server:
            values.append((frames.MAX_CONCURRENT_STREAMS, MAX_STREAMS))
        else:
            self._emit(PREFACE)
            values.append((frames.ENABLE_PUSH, 0))
        self._emit(frames.settings(values))
        self._emit(frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW))

    def _repay(self, size: int) -> None:
        """Credit for the connection's window."""
        self._owed += size
        if self._owed >= CONNECTION_WINDOW // 4:
            self._receive_window += self._owed
            self._emit(frames.window_update(0, self._owed))
            self._owed = 0


def _fields_of(flags: int, number: int, payload: bytes) -> bytes:
    """The piece of a field block in HEADERS with padding or a priority. Raises BadConnection."""
    if flags & PADDED:
        payload = frames.unpadded(payload, flags)
    if flags & PRIORITISED:
        if len(payload) < 5:
            raise BadConnection(Code.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
        if int.from_bytes(payload[:4], "big") & LAST_STREAM == number:
            raise BadConnection(Code.PROTOCOL_ERROR, "a stream depends on itself")
        payload = payload[5:]
    return payload


_RARE: Final = {
    frames.PRIORITY: Connection._on_priority,
    frames.RST_STREAM: Connection._on_rst_stream,
    frames.SETTINGS: Connection._on_settings,
    frames.PUSH_PROMISE: Connection._on_push_promise,
    frames.PING: Connection._on_ping,
    frames.GOAWAY: Connection._on_goaway,
    frames.CONTINUATION: Connection._on_continuation,
}
