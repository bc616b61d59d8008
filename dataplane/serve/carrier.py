"""One mTLS connection that carries the datagrams of many flows, on either side of it.

What cannot be sent yet waits in a queue of bounded size. When it is full, flows that have more than
their share in it lose their oldest datagrams (`core.shares`), so that a flood on one flow leaves the
others whole. Frames of one turn of the loop leave in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final

from dataplane.core.shares import cost, keep
from dataplane.serve.datagrams import BAD_FRAME, BATCH, QUEUE_FULL
from dataplane.serve.limits import Limits
from dataplane.serve.sockets import must_be_read, reset, stream
from dataplane.wire.datagrams import Decoder, Frame, Kind, encode, encode_end
from dataplane.wire.errors import BadMessage

_HIGH_WATER: Final = 1 << 18

OnFrame = Callable[[Frame], None]
OnLost = Callable[[], None]
OnDropped = Callable[[str, int], None]
"""(reason, datagrams)."""


class Carrier(asyncio.Protocol):
    """`on_lost` is called once, when the connection is gone."""

    __slots__ = (
        "_behind",
        "_bytes",
        "_came",
        "_decoder",
        "_limits",
        "_loop",
        "_lost",
        "_on_dropped",
        "_on_frame",
        "_on_lost",
        "_paused_since",
        "_queue",
        "_scheduled",
        "_transport",
    )

    def __init__(self, limits: Limits, on_frame: OnFrame, on_lost: OnLost, on_dropped: OnDropped) -> None:
        self._limits = limits
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._on_dropped = on_dropped
        self._decoder = Decoder()
        self._came: Iterator[Frame] | None = None  # frames that wait for their turn
        self._behind = False
        self._queue: list[tuple[int, bytes]] = []  # (flow, frame)
        self._bytes = 0
        self._paused_since = 0.0  # 0: it is not
        self._scheduled = False
        self._lost = False
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def send(self, flow: int, payload: bytes) -> None:
        """Send one datagram, or let it wait."""
        self._push(flow, encode(flow, payload))

    def end(self, flow: int) -> None:
        """Tell the peer that a flow is forgotten."""
        self._push(flow, encode_end(flow))

    def fail(self, reason: str) -> None:
        """There will be no connection: drop what waits."""
        self._lost = True
        self._drop_all(reason)

    def close(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():  # the peer does not read: waiting for it has no end
            transport.abort()
            return
        self._flush()
        transport.close()

    def check(self, now: float) -> None:
        """Give up a peer that does not read. With all it sends the kernel's time begins anew."""
        if self._paused_since and now - self._paused_since >= self._limits.udp_unread:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's side ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream(transport)
        must_be_read(transport, self._limits.udp_unread)
        self._transport.set_write_buffer_limits(_HIGH_WATER)
        self._flush()

    def data_received(self, data: bytes) -> None:
        frames = self._decoder.feed(data)
        if self._came is None:
            self._came = frames
            self._take()
        else:
            self._came = chain(self._came, frames)

    def _take(self) -> None:
        """Deliver what has come, but no more at once than lets others have their turn."""
        came, transport = self._came, self._transport
        if came is None or transport is None or self._lost:
            return
        count = 0
        try:
            for frame in islice(came, BATCH):
                count += 1
                self._on_frame(frame)
        except BadMessage:
            self._came, self._decoder = None, Decoder()  # nothing behind it is believed
            self._on_dropped(BAD_FRAME, 1)
            reset(transport)
            return
        more = count == BATCH
        if more != self._behind and not transport.is_closing():
            self._behind = more
            transport.pause_reading() if more else transport.resume_reading()
        if more:
            self._loop.call_soon(self._take)
        else:
            self._came = None

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._paused_since = self._loop.time()

    def resume_writing(self) -> None:
        self._paused_since = 0.0
        self._flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._lost = True
        self._drop_all("connection-lost")
        self._on_dropped("connection-lost", self._undelivered())
        self._on_lost()

    def _undelivered(self) -> int:
        """Give up what came and was not delivered; how many datagrams it was."""
        came, self._came = self._came, None
        count = 0
        try:
            for frame in came or ():
                count += frame.kind is Kind.DATAGRAM
        except BadMessage:
            return count
        return count + self._decoder.unfinished

    # --- the queue ---------------------------------------------------------------------------------

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._paused_since and not self._lost

    def _push(self, flow: int, frame: bytes) -> None:
        if self._lost:
            self._on_dropped("connection-lost", 1)
            return
        self._queue.append((flow, frame))
        self._bytes += cost(frame)
        if self._bytes > self._limits.udp_queued:
            if self._open:
                self._flush()
            else:
                self._shorten()
        elif not self._scheduled and self._open:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._open:
            self._flush()

    def _flush(self) -> None:
        if self._queue and self._transport is not None and not self._lost:
            data = b"".join([frame for _, frame in self._queue])
            self._queue.clear()
            self._bytes = 0
            self._transport.write(data)

    def _shorten(self) -> None:
        """Make room for a while: going through the queue costs in proportion to it."""
        before = len(self._queue)
        self._queue = keep(self._queue, self._limits.udp_queued * 3 // 4)
        self._bytes = sum(cost(frame) for _, frame in self._queue)
        self._on_dropped(QUEUE_FULL, before - len(self._queue))

    def _drop_all(self, reason: str) -> None:
        count = len(self._queue)
        self._queue.clear()
        self._bytes = 0
        if count:
            self._on_dropped(reason, count)
