"""Opaque bytes between two connections, with half-close and back-pressure both ways.

Bytes are passed on as received. What one side cannot take yet stops the other side's reading, so a
tunnel holds no more than the transports' high-water marks. A side that ends with an error resets
the other: the end of a stream is never made up.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from time import perf_counter
from typing import Final, Self

from dataplane.core.balance import Load
from dataplane.serve.limits import Limits
from dataplane.serve.registry import Registry
from dataplane.serve.sockets import failure, reset, stream, unanswered
from dataplane.telemetry import Labels, TcpSeries, Telemetry

OnClosed = Callable[[int, int, str], None]
"""(bytes to the server, bytes to the client, reason or "")."""

ABORTED: Final = "aborted"
IDLE: Final = "idle"
VANISHED: Final = "vanished"
"""The host of one side gives no sign of life any more."""
DRAINED: Final = "drained"
_LOOKS: Final = 3
"""How often a tunnel is looked at in the time that a peer has to acknowledge what it was sent."""
_NO_SIGN: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""What the kernel says of a peer that does not answer."""


class Tunnel:
    """Two ends, joined in any order: the server may be connected before the client is told of it.

    `heard(spoke)`: called once if something comes of the server while there is no client yet: it
    spoke or ended its side, or it cannot be had.
    """

    __slots__ = (
        "_heard",
        "_limits",
        "_load",
        "_loop",
        "_on_closed",
        "_open",
        "_registry",
        "_since",
        "client",
        "deadline",
        "reason",
        "server",
    )

    def __init__(
        self,
        registry: Registry,
        limits: Limits,
        on_closed: OnClosed,
        heard: Callable[[bool], None] | None = None,
    ) -> None:
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._registry = registry
        self._limits = limits
        self._on_closed = on_closed
        self._open = 2
        self._load: Load | None = None
        self.reason = ""
        self._since = self._loop.time()
        self.deadline = self._since + min(limits.tunnel_idle, limits.unanswered / _LOOKS)
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
        """Time to look who is there, and whether a byte has moved: so bytes need not move the deadline."""
        now, limits = self._loop.time(), self._limits
        trouble = self.client.trouble(limits.unanswered) or self.server.trouble(limits.unanswered)
        if self.client.moved or self.server.moved:
            self.client.moved = self.server.moved = False
            self._since = now
        elif not trouble and now - self._since >= limits.tunnel_idle:
            trouble = IDLE
        if trouble:
            self.reason = self.reason or trouble
            self.abort()
            return
        self.deadline = min(self._since + limits.tunnel_idle, now + limits.unanswered / _LOOKS)

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
            error = exc.errno if isinstance(exc, OSError) else None
            self._tunnel.reason = self._tunnel.reason or _reason(error)
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

    def trouble(self, seconds: float) -> str:
        """Why it should end, as far as its transport may not hear of that; "" if it should not.

        `seconds`: for acknowledgements.
        """
        transport = self.transport
        if transport is None or self.lost:
            return ""
        if not self.moved and unanswered(transport, seconds):
            return VANISHED
        error = failure(transport) if self.ended else 0
        return _reason(error) if error else ""


def _reason(error: int | None) -> str:
    return VANISHED if error in _NO_SIGN else ABORTED
