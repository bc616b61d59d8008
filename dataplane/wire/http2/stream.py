"""A stream, and whoever hears of its events."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import Fields
from dataplane.wire.http2.bounds import STREAM_WINDOW
from dataplane.wire.http2.fields import Pair
from dataplane.wire.http2.heads import StreamRequest, StreamResponse
from dataplane.wire.http2.hpack import NOTHING

Data = bytes | memoryview


class Handler(Protocol):
    """Whoever uses a connection. May call the connection back from within any of these."""

    def on_request(self, stream: Stream, head: StreamRequest, _end: bool) -> None:
        """Server: a new stream; `stream.remote_done` says that there is no body."""

    def on_refused(self, stream: Stream, error: BadMessage, _end: bool) -> None:
        """Server: a new stream whose head cannot be used but may be answered (431)."""

    def on_malformed(self, error: BadMessage) -> None:
        """Server: a request was reset because it is malformed."""

    def on_declined(self) -> None:
        """Server: a request was refused because the client has too many under way."""

    def on_response(self, stream: Stream, head: StreamResponse, end: bool) -> None:
        """Client: an interim or the final head."""

    def on_data(self, stream: Stream, data: bytes, end: bool) -> bool:
        """Bytes of a body. True: they are on their way. False: the handler owes `credit` for them."""

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        """The stream's end, with fields."""

    def on_reset(self, stream: Stream, code: int) -> None:
        """The stream is gone: the peer reset it, or we did because the peer broke a rule on it."""

    def on_sent(self, stream: Stream, size: int) -> None:
        """So many bytes that had to wait in `send_data` are framed now."""

    def on_settings(self) -> None:
        """The peer's settings have changed."""

    def on_goaway(self, last: int) -> None:
        """The peer takes no new streams, and has not looked at those above `last`."""

    def on_drained(self) -> None:
        """The peer knows that we take no new streams (`shut_down` is complete)."""

    def on_pong(self) -> None:
        """A `ping` was answered."""


class Stream:
    """One stream. `owner` is the handler's."""

    __slots__ = (
        "bodiless",
        "broken",
        "end_queued",
        "expected",
        "headed",
        "held",
        "id",
        "interims",
        "last_word",
        "local_done",
        "outbox",
        "owed",
        "owner",
        "receive_window",
        "remote_done",
        "reset",
        "secret",
        "send_window",
    )

    def __init__(self, number: int, send_window: int) -> None:
        self.id = number
        self.owner: Any = None
        self.send_window = send_window
        self.receive_window = STREAM_WINDOW
        self.held = 0
        """Bytes handed to the owner, for which it has not given credit."""
        self.owed = 0
        """Credit not told to the peer yet."""
        self.headed = False
        """The peer's head (the final one) has arrived."""
        self.bodiless = False
        """Client: no answer to this request has a body (HEAD)."""
        self.interims = 0
        """Interim heads (1xx) that have arrived."""
        self.expected = -1
        """Bytes of the peer's body still to come by its content-length; -1: it named none."""
        self.local_done = False
        self.remote_done = False
        self.reset = False
        self.broken = False
        """The peer broke a rule, which cost it this stream."""
        self.secret = NOTHING
        """Names of fields we send that no compression table may take, set by the owner."""
        self.outbox: deque[Data | list[Pair]] | None = None
        """What could not be framed yet, in order."""
        self.end_queued = False
        self.last_word = -1
        """Code of the RST_STREAM behind our last frame, if the peer has not ended by then; -1: none."""

    @property
    def closed(self) -> bool:
        return self.reset or (self.local_done and self.remote_done)
