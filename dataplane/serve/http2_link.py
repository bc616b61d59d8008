"""What both ends of HTTP/2 share: a `Connection` of `wire.http2` on a transport.

Frames gather during one turn of the event loop and go out in one write, however many streams they
belong to. While the socket is full the connection frames nothing more.
"""

from __future__ import annotations

import asyncio

from dataplane.serve.registry import Registry
from dataplane.serve.sockets import stream as as_stream
from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import Fields
from dataplane.wire.http2 import BadConnection, Connection, Stream
from dataplane.wire.http2.heads import StreamRequest, StreamResponse


class Link(asyncio.Protocol):
    """One transport. Subclasses handle what `connection` tells."""

    __slots__ = ("_flushing", "_loop", "_registry", "_server", "connection", "heard", "lost", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, registry: Registry, *, server: bool) -> None:
        self._loop = loop
        self._registry = registry
        self._server = server
        self._flushing = False
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.connection: Connection = None  # type: ignore[assignment]  # set by connection_made
        self.heard = registry.now
        """When the peer was heard last, by the registry's clock."""
        self.lost = False

    # --- from the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = as_stream(transport)
        self.connection = Connection(self, self._wake, server=self._server, now=self._registry.now)

    def data_received(self, data: bytes) -> None:
        self.heard = self._registry.now
        try:
            self.connection.receive(data, self.heard)
        except BadConnection as error:
            self.broken(error)
        if self.connection.going_away and not self.connection.streams:
            self._wake()

    def pause_writing(self) -> None:
        self.connection.blocked = True

    def resume_writing(self) -> None:
        self.connection.blocked = False
        self.connection.pump()

    # --- writing -----------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what has gathered; close behind it when both sides are done."""
        connection = self.connection
        self._flushing = True  # so that frames made meanwhile do not ask for another turn
        while not self.lost:
            data = connection.take()
            if not data:
                break
            self.transport.write(data)
            connection.pump()
        self._flushing = False
        if connection.going_away and not connection.streams:
            self.transport.close()

    def fail(self, error: BadConnection) -> None:
        """Say goodbye with the error's code."""
        self.connection.fail(error.code)
        self.flush()
        self.transport.close()

    def broken(self, error: BadConnection) -> None:
        """The peer's bytes make no sense, or it is a nuisance."""
        self.fail(error)

    # --- what not every side hears -----------------------------------------------------------------

    def on_request(self, stream: Stream, head: StreamRequest, _end: bool) -> None:
        """Server only."""

    def on_refused(self, stream: Stream, error: BadMessage, _end: bool) -> None:
        """Server only."""

    def on_malformed(self, error: BadMessage) -> None:
        """Server only."""

    def on_declined(self) -> None:
        """Server only."""

    def on_response(self, stream: Stream, head: StreamResponse, end: bool) -> None:
        """Client only."""

    def on_data(self, stream: Stream, data: bytes, end: bool) -> bool:
        raise NotImplementedError

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        raise NotImplementedError

    def on_reset(self, stream: Stream, code: int) -> None:
        raise NotImplementedError

    def on_sent(self, stream: Stream, size: int) -> None:
        raise NotImplementedError

    def on_settings(self) -> None:
        """Nothing to do: limits are read when they are needed."""

    def on_goaway(self, last: int) -> None:
        """Client only."""

    def on_drained(self) -> None:
        """Server only: `flush` closes."""

    def on_pong(self) -> None:
        """`heard` says it."""
