"""Opaque bytes between two connections, with half-close and back-pressure both ways.

Bytes are passed on as received. What one side cannot take yet stops the other side's reading, so a
tunnel holds no more than the transports' high-water marks. A side that ends with an error resets
the other: the end of a stream is never made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final, Self

from dataplane.core.balance import Load
from dataplane.serve.registry import Registry
from dataplane.serve.sockets import reset, stream
from dataplane.telemetry import Labels, TcpSeries, Telemetry

OnClosed = Callable[[int, int, str], None]
"""(bytes to the server, bytes to the client, reason or "")."""

ABORTED: Final = "aborted"
IDLE: Final = "idle"
DRAINED: Final = "drained"


class Tunnel:
    """Two ends, joined in any order: the server may be connected before the client is told of it.

    `heard(spoke)`: called once if something comes of the server while there is no client yet: it
    spoke or ended its side, or it cannot be had.
    """

    __slots__ = (
        "_heard",
        "_idle",
        "_load",
        "_loop",
        "_on_closed",
        "_open",
        "_registry",
        "client",
        "deadline",
        "reason",
        "server",
    )

    def __init__(
        self,
        registry: Registry,
        idle: float,
        on_closed: OnClosed,
        heard: Callable[[bool], None] | None = None,
    ) -> None:
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._registry = registry
        self._idle = idle
        self._on_closed = on_closed
        self._open = 2
        self._load: Load | None = None
        self.reason = ""
        self.deadline = self._loop.time() + idle
        self.client = End(self)
        self.server = End(self)
        self.client.other, self.server.other = self.server, self.client
        registry.add(self)

    def weigh_on(self, load: Load) -> None:
        """Count as active on an endpoint until closed. Called once there is a server."""
        if self._open:
            load.active += 1
            self._load = load

    def expire(self) -> None:
        """No byte for too long: looked up here, so that bytes need not move the deadline."""
        if self.client.moved or self.server.moved:
            self.client.moved = self.server.moved = False
            self.deadline = self._loop.time() + self._idle
            return
        self.reason = IDLE
        self.abort()

    def drain(self) -> None:
        """Opaque protocols have no way to say goodbye: they are left alone until the deadline."""

    def abort(self) -> None:
        """Reset both sides."""
        self.reason = self.reason or (DRAINED if self._registry.draining else ABORTED)
        self.client.abort()
        self.server.abort()

    def failed(self, reason: str) -> None:
        """There will be no server: the client sees a reset."""
        self.reason = reason
        self.server.lost = True
        self.client.abort()
        self.closed()
        self.early(False)

    def drop(self) -> None:
        """There will be no client: it turned out to want something else."""
        self._heard = None
        self.client.lost = True
        if self.server.transport is not None and not self.server.lost:
            self.server.transport.close()
        self.closed()

    def early(self, spoke: bool) -> None:
        """Something came of one end before there was the other."""
        heard, self._heard = self._heard, None
        if heard is not None and self.client.transport is None:
            heard(spoke)

    def closed(self) -> None:
        """One end is gone; called by each of them once."""
        self._open -= 1
        if self._open == 0:
            self._registry.forget(self)
            if self._load is not None:
                self._load.active -= 1
            self._on_closed(self.client.received, self.server.received, self.reason)


class Tally:
    """What one tunnel is counted under, once it is known to be one."""

    __slots__ = ("_began", "_labels", "_series", "_telemetry")

    def __init__(self, telemetry: Telemetry, labels: Labels) -> None:
        """`labels`: the fields of a `telemetry.Edge`, in order."""
        self._telemetry = telemetry
        self._labels = labels
        self._series: TcpSeries | None = None
        self._began = 0.0

    def begin(self) -> Self:
        self._series = self._telemetry.tcp_open(*self._labels)
        self._began = perf_counter()
        return self

    def closed(self, sent: int, received: int, reason: str) -> None:
        """As OnClosed."""
        if self._series is not None:
            self._series.close(sent, received, perf_counter() - self._began, reason)


class End(asyncio.Protocol):
    """One side of a tunnel."""

    __slots__ = ("_early", "_tunnel", "ended", "lost", "moved", "other", "received", "transport")

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._early: list[bytes] = []
        self.other: End = self  # set by the tunnel
        self.transport: asyncio.Transport | None = None
        self.received = 0
        self.ended = False
        self.lost = False
        self.moved = False

    def adopt(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Become the protocol of a transport in use, of which `data` was read already."""
        transport.set_protocol(self)
        self.connection_made(transport)
        if data:
            self.data_received(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        mine = self.transport = stream(transport)
        other = self.other
        if other.lost:
            reset(mine)
            return
        if other.transport is None:
            return
        for data in other.flush():
            mine.write(data)
        if other.ended:
            mine.write_eof()
        else:
            other.transport.resume_reading()
        mine.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.moved = True
        self.received += len(data)
        onward = self.other.transport
        if onward is None:  # still connecting
            self._early.append(data)
            assert self.transport is not None
            self.transport.pause_reading()
            self._tunnel.early(True)
        else:
            onward.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        onward = self.other.transport
        if onward is not None:
            if self.other.ended:
                onward.close()
                return False
            onward.write_eof()
        else:
            self._tunnel.early(True)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        other = self.other
        onward = other.transport
        broken = exc is not None or not (self.ended or other.ended)
        if broken and not other.lost:
            self._tunnel.reason = self._tunnel.reason or ABORTED
        if onward is not None and not other.lost:
            if broken:
                reset(onward)
            else:
                onward.close()
        self._tunnel.closed()
        if onward is None:
            self._tunnel.early(False)

    def pause_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None and not self.other.ended:
            self.other.transport.resume_reading()

    def flush(self) -> list[bytes]:
        """What came before there was another side."""
        early, self._early = self._early, []
        return early

    def abort(self) -> None:
        if self.transport is not None and not self.lost:
            reset(self.transport)
