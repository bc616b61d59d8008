"""HTTP/2 connections to one server: few, each with many exchanges at a time.

Knows nothing of where a request came from: it tells a `Call` what arrives. A `Trunk` dials once for
all who wait, fills one connection before it opens another, and retires those that a rotation of
certificates or the server's GOAWAY has aged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from dataplane.core.outcome import Outcome
from dataplane.serve.connecting import ConnectFailed, Opener
from dataplane.serve.http2_link import Link
from dataplane.serve.registry import Registry
from dataplane.serve.tls import TlsLayer
from dataplane.tasks import Tasks
from dataplane.wire.http1 import Fields
from dataplane.wire.http2 import BadConnection, Code, Stream
from dataplane.wire.http2.heads import StreamResponse
from smi.names import ALPN_HTTP2

QUIET: Final = 15.0
"""Seconds of silence on a connection with exchanges before a peer proxy is asked for a sign of life."""
PATIENCE: Final = 10.0
"""Seconds it gets for that."""
MOST_CROWDED: Final = 4
"""Connections to one server before exchanges are put on those whose windows stuck streams hold."""


class Call(Protocol):
    """A request that needs a connection, then the owner of its stream."""

    def connected(self, link: UpstreamLink) -> None:
        """Here is one. The call opens its stream at once, or is gone."""

    def not_connected(self, outcome: Outcome) -> None:
        """There is none to be had."""

    def respond(self, head: StreamResponse, end: bool) -> None: ...
    def response_data(self, data: bytes, end: bool) -> bool:
        """Whether the bytes are on their way, or of no use; else `credit` is owed for them."""

    def response_trailers(self, fields: Fields) -> None: ...

    def server_reset(self, code: int, broken: bool) -> None:
        """The server gave up this stream."""

    def server_lost(self, outcome: Outcome, processed: bool) -> None:
        """The connection is gone; `processed`: the server may have acted on the request."""

    def request_sent(self, size: int) -> None:
        """So many bytes of the request that had to wait are on their way."""


class UpstreamLink(Link):
    """A connection of a `Trunk`."""

    __slots__ = ("asked", "generation", "idle_since", "mesh", "outcome", "reused", "trunk")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        registry: Registry,
        trunk: Trunk,
        generation: object,
        mesh: bool,
    ) -> None:
        Link.__init__(self, loop, registry, server=False)
        self.trunk = trunk
        self.generation = generation
        self.mesh = mesh
        """The server is a peer proxy; others may take offence at pings (gRPC's ping strikes)."""
        self.reused = False
        self.idle_since = registry.now
        self.asked = 0.0
        """When a sign of life was asked for; 0: it was not, or came."""
        self.outcome = Outcome.RESET
        """Why its exchanges fail when it is lost."""

    @property
    def usable(self) -> bool:
        return self.connection is not None and self.connection.can_open and not self.transport.is_closing()

    # --- from the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Link.connection_made(self, transport)
        layer: object = transport
        if isinstance(layer, TlsLayer) and layer.alpn != ALPN_HTTP2:
            self.lost = True
            self.outcome = Outcome.NO_HTTP2
            self.transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True
        self.trunk.forget(self)
        streams, self.connection.streams = self.connection.streams, {}
        for stream in streams.values():
            stream.reset = True
            owner, stream.owner = stream.owner, None
            if owner is not None:
                owner.server_lost(self.outcome, True)

    def broken(self, error: BadConnection) -> None:
        self.outcome = Outcome.BAD_RESPONSE
        self.trunk.forget(self)
        self.fail(error)

    # --- from the connection -----------------------------------------------------------------------

    def on_response(self, stream: Stream, head: StreamResponse, end: bool) -> None:
        if stream.owner is not None:
            stream.owner.respond(head, end)

    def on_data(self, stream: Stream, data: bytes, end: bool) -> bool:
        owner: Call | None = stream.owner
        return owner is None or owner.response_data(data, end)

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        if stream.owner is not None:
            stream.owner.response_trailers(fields)

    def on_reset(self, stream: Stream, code: int) -> None:
        owner, stream.owner = stream.owner, None
        if owner is not None:
            owner.server_reset(code, stream.broken)

    def on_sent(self, stream: Stream, size: int) -> None:
        if stream.owner is not None:
            stream.owner.request_sent(size)

    def on_goaway(self, last: int) -> None:
        self.trunk.forget(self)
        for stream in [stream for number, stream in self.connection.streams.items() if number > last]:
            owner, stream.owner = stream.owner, None
            self.connection.reset(stream, Code.CANCEL)
            if owner is not None:
                owner.server_lost(Outcome.RESET, False)
        self._wake()  # to close if nothing is left

    def check(self, now: float, idle_seconds: float) -> None:
        """Once per tick: idle for too long, or too silent?"""
        if not self.connection.streams:
            if now - max(self.idle_since, self.heard) >= idle_seconds:
                self.retire()
        elif not self.mesh or now - self.heard < QUIET:
            self.asked = 0.0
        elif not self.asked:
            self.asked = now
            self.connection.ping()
        elif now - self.asked > PATIENCE:
            self.transport.abort()

    def retire(self) -> None:
        """No new exchanges; close behind the last."""
        self.trunk.forget(self)
        if not self.connection.going_away:
            self.connection.fail(Code.NO_ERROR)


class Trunk:
    """The HTTP/2 connections to one server."""

    __slots__ = ("_dialling", "_generation", "_links", "_mesh", "_opener", "_registry", "_waiting")

    def __init__(
        self, opener: Opener, generation: Callable[[], object], registry: Registry, *, mesh: bool
    ) -> None:
        self._opener = opener
        self._generation = generation
        self._registry = registry
        self._mesh = mesh
        self._links: list[UpstreamLink] = []
        self._waiting: deque[Call] = deque()
        self._dialling = False

    @property
    def links(self) -> int:
        """Connections that take exchanges."""
        return len(self._links)

    @property
    def idle(self) -> int:
        return sum(not link.connection.streams for link in self._links)

    def take(self) -> UpstreamLink | None:
        """A connection with room for one more stream; a crowded one only if there are enough."""
        generation = self._generation()
        spare: UpstreamLink | None = None
        for link in self._links:
            if link.generation is not generation:
                link.retire()
                return self.take()
            connection = link.connection
            if connection.can_open and not link.transport.is_closing():
                if not connection.crowded:
                    return link
                spare = link
        return spare if len(self._links) >= MOST_CROWDED else None

    def wait(self, call: Call, tasks: Tasks) -> None:
        """Have `call` told when there is a connection."""
        self._waiting.append(call)
        if not self._dialling:
            self._dialling = True
            tasks.start("connect over HTTP/2", self._dial(tasks))

    def forget(self, link: UpstreamLink) -> None:
        """It takes no new exchanges. Harmless for one that is not there."""
        if link in self._links:
            self._links.remove(link)

    def sweep(self, now: float, idle_seconds: float) -> None:
        for link in tuple(self._links):
            link.check(now, idle_seconds)

    def close(self) -> None:
        """Retire every connection."""
        for link in tuple(self._links):
            link.retire()

    async def _dial(self, tasks: Tasks) -> None:
        link = UpstreamLink(asyncio.get_running_loop(), self._registry, self, self._generation(), self._mesh)
        try:
            await self._opener(lambda: link)
        except ConnectFailed as failure:
            self._dialling = False
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                link = next((link for link in self._links if link.usable), link)
                if link.usable:
                    call.connected(link)
                else:
                    call.not_connected(failure.outcome)
            return
        self._dialling = False
        waiting, self._waiting = self._waiting, deque()
        if link.lost:  # at once: whoever dials again for each would not come to an end
            for call in waiting:
                call.not_connected(link.outcome)
            return
        self._links.append(link)
        while waiting and link.usable:
            waiting.popleft().connected(link)
        for call in waiting:
            self.wait(call, tasks)
