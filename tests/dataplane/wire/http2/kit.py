"""Two ends without sockets: a recorder of events, and a pair whose bytes are carried by hand."""

from __future__ import annotations

from typing import Any

from dataplane.wire.errors import BadMessage
from dataplane.wire.http2 import Connection, Stream
from dataplane.wire.http2.heads import StreamRequest, StreamResponse

GET = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"api"),
]
POST = [(b":method", b"POST"), *GET[1:]]
OK = [(b":status", b"200")]


class Events:
    """Records what a connection tells, in a form that can be compared; DATA of a stream is joined."""

    def __init__(self, *, credit: bool = True) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.streams: dict[int, Stream] = {}
        self.connection: Connection
        self.data: dict[int, bytes] = {}
        self.sent = 0
        self._credit = credit

    def on_request(self, stream: Stream, head: StreamRequest, _end: bool) -> None:
        self.streams[stream.id] = stream
        self.seen.append(("request", stream.id, head.method, head.target, tuple(head.fields), _end))

    def on_refused(self, stream: Stream, error: BadMessage, _end: bool) -> None:
        self.streams[stream.id] = stream
        self.seen.append(("refused", stream.id, error.fault))

    def on_malformed(self, error: BadMessage) -> None:
        self.seen.append(("malformed", str(error)))

    def on_declined(self) -> None:
        self.seen.append(("declined",))

    def on_response(self, stream: Stream, head: StreamResponse, end: bool) -> None:
        self.seen.append(("response", stream.id, head.status, tuple(head.fields), end))

    def on_data(self, stream: Stream, data: bytes, end: bool) -> bool:
        self.data[stream.id] = self.data.get(stream.id, b"") + data
        if end:
            self.seen.append(("end", stream.id))
        return self._credit

    def on_trailers(self, stream: Stream, fields: list[tuple[bytes, bytes]]) -> None:
        self.seen.append(("trailers", stream.id, tuple(fields)))

    def on_reset(self, stream: Stream, code: int) -> None:
        self.seen.append(("reset", stream.id, int(code)))

    def on_sent(self, _stream: Stream, size: int) -> None:
        self.sent += size

    def on_settings(self) -> None:
        pass

    def on_goaway(self, last: int) -> None:
        self.seen.append(("goaway", last))

    def on_drained(self) -> None:
        self.seen.append(("drained",))

    def on_pong(self) -> None:
        self.seen.append(("pong",))


def end(*, server: bool, credit: bool = True) -> tuple[Connection, Events]:
    events = Events(credit=credit)
    connection = Connection(events, lambda: None, server=server, now=0.0)
    events.connection = connection
    return connection, events


class Pair:
    """A client and a server; `carry` moves bytes until both are silent."""

    def __init__(self, *, credit: bool = True) -> None:
        self.client, self.at_client = end(server=False, credit=credit)
        self.server, self.at_server = end(server=True, credit=credit)
        self.carry()

    def carry(self) -> None:
        while True:
            up, down = self.client.take(), self.server.take()
            if not up and not down:
                return
            if up:
                self.server.receive(up, 0.0)
            if down:
                self.client.receive(down, 0.0)
            self.client.pump()
            self.server.pump()
