"""What we pass on over HTTP/2, hyper-h2 reads as we did; what it calls malformed we do not pass on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpack import Encoder

from dataplane.core.inbound import CALLER_FIELDS
from dataplane.serve.outbound import to_origin_form
from dataplane.wire.errors import BadMessage
from dataplane.wire.http2 import PREFACE, BadConnection, Connection
from dataplane.wire.http2 import frames as f
from dataplane.wire.http2.fields import Pair
from dataplane.wire.http2.heads import (
    StreamRequest,
    StreamResponse,
    write_request,
    write_response,
    write_trailers,
)
from dataplane.wire.http2.stream import Stream
from tests.dataplane.serve import judges_http2
from tests.dataplane.wire.http2.kit import Events, end

Part = tuple[str, list[Pair] | bytes]
"""("head", fields) or ("data", bytes); the last part of a message ends its stream."""


class Relay(Events):
    """Keeps heads as they are, to be written again."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[StreamRequest] = []
        self.responses: list[StreamResponse] = []
        self.trailers: list[list[Pair]] = []
        self.broken = False
        self.ended = False

    def on_request(self, stream: Stream, head: StreamRequest, _end: bool) -> None:
        self.requests.append(head)
        self.ended = _end

    def on_refused(self, stream: Stream, error: BadMessage, _end: bool) -> None:
        self.broken = True

    def on_malformed(self, error: BadMessage) -> None:
        self.broken = True

    def on_response(self, stream: Stream, head: StreamResponse, end: bool) -> None:
        self.responses.append(head)
        self.ended = end

    def on_data(self, stream: Stream, data: bytes, end: bool) -> bool:
        self.ended = end
        return super().on_data(stream, data, end)

    def on_trailers(self, stream: Stream, fields: list[Pair]) -> None:
        self.trailers.append(fields)
        self.ended = True

    def on_reset(self, stream: Stream, code: int) -> None:
        self.broken = True


@dataclass(frozen=True)
class Relayed:
    """What the next hop gets."""

    frames: bytes
    head: list[Pair]
    body: bytes
    trailers: list[Pair]


def encode(parts: Sequence[Part]) -> bytes:
    """The frames of stream 1, as a peer that checks nothing would send them."""
    encoder = Encoder()
    out = b""
    for place, (kind, content) in enumerate(parts):
        flags = f.END_STREAM if place == len(parts) - 1 else 0
        if kind == "data":
            assert isinstance(content, bytes)
            out += f.frame(f.DATA, flags, 1, content)
        else:
            out += f.frame(f.HEADERS, flags | f.END_HEADERS, 1, encoder.encode(content))
    return f.settings([]) + out


def relay_request(parts: Sequence[Part]) -> Relayed | None:
    """What a server gets of a client's request; None if it is refused."""
    events = Relay()
    came = Connection(events, lambda: None, server=True, now=0.0)
    try:
        came.receive(PREFACE + encode(parts), 0.0)
        if events.broken or not events.requests or not events.ended:
            return None
        (head,) = events.requests
        if head.method == b"CONNECT":
            return None  # as the gates say
        to_origin_form(head)
    except (BadConnection, BadMessage):
        return None
    goes, _ = end(server=False)
    fields = write_request(head, [(b"x-forwarded-for", b"10.0.0.1")], CALLER_FIELDS, lambda: b"0" * 32)
    body, trailers = events.data.get(1, b""), [write_trailers(one, CALLER_FIELDS) for one in events.trailers]
    stream = goes.open(fields, None, end=not body and not trailers)
    _send(goes, stream, body, trailers)
    return Relayed(goes.take(), fields, body, trailers[0] if trailers else [])


def relay_response(method: bytes, parts: Sequence[Part]) -> Relayed | None:
    """What a client that asked with `method` gets of a server's answer; None if it is refused."""
    events = Relay()
    came = Connection(events, lambda: None, server=False, now=0.0)
    asked = [(b":method", method), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
    came.open(asked, None, end=True)
    try:
        came.receive(encode(parts), 0.0)
    except BadConnection:
        return None
    if events.broken or not events.responses or not events.ended:
        return None
    goes, there = end(server=True)
    goes.receive(PREFACE + encode([("head", asked)]), 0.0)
    stream = there.streams[1]
    body, trailers = events.data.get(1, b""), [write_trailers(one) for one in events.trailers]
    heads = [write_response(head) for head in events.responses]
    for place, fields in enumerate(heads):
        last = place == len(heads) - 1
        goes.send_head(stream, fields, end=last and not body and not trailers)
    _send(goes, stream, body, trailers)
    return Relayed(goes.take(), heads[-1], body, trailers[0] if trailers else [])


def _send(goes: Connection, stream: Stream, body: bytes, trailers: list[list[Pair]]) -> None:
    if body:
        goes.send_data(stream, body, end=not trailers)
    for fields in trailers:
        goes.send_head(stream, fields, end=True)


def check_request(parts: Sequence[Part]) -> bool:
    """Whether it was passed on."""
    relayed = relay_request(parts)
    if relayed is None:
        return False
    told = judges_http2.read_request(PREFACE + encode(parts))
    # Names of hosts are the same in either case; which of the two goes on is settled.
    assert not told.refused or told.refused.endswith("b'a' / b'A'"), ("passed on", told.refused, parts)
    found = judges_http2.read_request(relayed.frames)
    _agree(found, relayed, parts)
    assert told.refused or found.body == told.body
    return True


def check_response(method: bytes, parts: Sequence[Part]) -> bool:
    """Whether it was passed on."""
    relayed = relay_response(method, parts)
    if relayed is None:
        return False
    told = judges_http2.read_response(method, encode(parts))
    # It waits for the length that such an answer names of what it does not send; a 304 may, a 204 may not.
    named = "BodyLength" in told.refused and not relayed.body
    if named and (b":status", b"304") in relayed.head:
        return True
    named = named and (b":status", b"204") in relayed.head
    assert named or not told.refused, ("passed on", told.refused, method, parts)
    found = judges_http2.read_response(method, relayed.frames)
    _agree(found, relayed, parts)
    assert told.refused or found.body == told.body
    return True


def _agree(found: judges_http2.Message, relayed: Relayed, parts: Sequence[Part]) -> None:
    """What was written is read as it is meant."""
    assert (found.refused, found.ended) == ("", True), ("written", found.refused, parts, relayed)
    assert _same(found.fields, relayed.head), ("head", found, relayed)
    was = found.body, sorted(found.trailers)
    assert was == (relayed.body, sorted(relayed.trailers)), ("body", found, relayed)


def _same(found: list[Pair], written: list[Pair]) -> bool:
    """hyper-h2 reads the crumbs of a cookie as one field (RFC 9113 §8.2.3)."""
    crumbs = [value for name, value in written if name == b"cookie"]
    rest = [pair for pair in written if pair[0] != b"cookie"]
    return sorted(found) == sorted([*rest, (b"cookie", b"; ".join(crumbs))] if crumbs else rest)
