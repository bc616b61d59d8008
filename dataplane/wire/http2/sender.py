"""The sending half of a connection: frames gather until `take`, as far as windows and socket allow.

While the socket is full (`blocked`) nothing of a stream is framed, so that a peer that does not
read holds only its open streams. Streams that have to wait take turns, one frame each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dataplane.wire.http2 import frames
from dataplane.wire.http2.bounds import BATCH, FORGIVEN, SMALL
from dataplane.wire.http2.fields import Pair
from dataplane.wire.http2.frames import DATA, END_HEADERS, END_STREAM, HEADER, HEADERS
from dataplane.wire.http2.hpack import Writer
from dataplane.wire.http2.stream import Data, Handler, Stream


class Sender:
    """`wake` is called whenever there is something to `take` after there was nothing."""

    def __init__(self, handler: Handler, wake: Callable[[], None]) -> None:
        self.streams: dict[int, Stream] = {}
        self.blocked = False
        """Set by the owner while its socket is full; `pump` after clearing it."""
        self._handler = handler
        self._wake = wake
        self._out: list[Data] = []
        self._out_size = 0
        self._writer = Writer()
        self._send_window = frames.DEFAULT_WINDOW
        self._largest = frames.DEFAULT_FRAME
        self._waiting: dict[Stream, None] = {}
        self._updates = 0  # WINDOW_UPDATE frames since the last DATA frame
        self._answered = 0  # server: complete answers, see FORGIVEN
        self._probed = True  # the peer has sent a PING since the last DATA frame

    def take(self) -> bytes:
        """Everything to be sent now."""
        out = self._out
        if not out:
            return b""
        self._out = []
        self._out_size = 0
        return b"".join(out)

    def send_head(self, stream: Stream, fields: list[Pair], *, end: bool) -> None:
        """Server: a response's head; also trailers on either side, with `end`."""
        if stream.reset or stream.local_done or stream.end_queued:
            return
        if self.blocked or stream.outbox:
            self._queue(stream, fields, end)
        else:
            self._send_fields(stream, fields, end)

    def send_data(self, stream: Stream, data: bytes, *, end: bool) -> bool:
        """Bytes of a body. True: all is framed. False: it waits, and `on_sent` tells how it goes on."""
        if stream.reset or stream.local_done or stream.end_queued:
            return True
        size = len(data)
        if (
            size <= stream.send_window
            and size <= self._send_window
            and size <= self._largest
            and not stream.outbox
            and not self.blocked
            and self._out_size < BATCH
        ):
            self._frame_data(stream, data, size, end)
            return True
        self._queue(stream, data, end)
        self.pump()
        return False

    def pump(self) -> None:
        """Frame what waits as far as windows and socket allow, one frame per stream in turn."""
        waiting = self._waiting
        if not waiting:
            return
        starved: list[Stream] = []
        while waiting and not self.blocked and self._out_size < BATCH:
            stream = next(iter(waiting))
            del waiting[stream]
            outbox = stream.outbox
            if not outbox:
                continue
            item = outbox[0]
            if isinstance(item, list):
                outbox.popleft()
                self._send_fields(stream, item, stream.end_queued and not outbox)
            elif item and self._send_window <= 0:
                starved.append(stream)
                continue
            elif item and stream.send_window <= 0:
                continue  # its WINDOW_UPDATE brings it back
            else:
                self._pump_data(stream, outbox, item)
            if outbox and not stream.reset:
                waiting[stream] = None
        for stream in starved:
            waiting[stream] = None

    def _emit(self, data: bytes) -> None:
        out = self._out
        if not out:
            self._wake()
        out.append(data)
        self._out_size += len(data)

    def _send_fields(self, stream: Stream, fields: list[Pair], end: bool) -> None:
        block = self._writer.write(fields, stream.secret)
        size = len(block)
        if size <= self._largest:
            flags = END_HEADERS | END_STREAM if end else END_HEADERS
            self._emit(HEADER.pack(size >> 8, size & 255, HEADERS, flags, stream.id) + block)
        else:
            self._send_long_block(stream, END_STREAM if end else 0, block)
        if end:
            self._local_end(stream)

    def _send_long_block(self, stream: Stream, flags: int, block: bytes) -> None:
        pieces = [block[at : at + self._largest] for at in range(0, len(block), self._largest)]
        self._emit(frames.frame(HEADERS, flags, stream.id, pieces[0]))
        for piece in pieces[1:-1]:
            self._emit(frames.frame(frames.CONTINUATION, 0, stream.id, piece))
        self._emit(frames.frame(frames.CONTINUATION, END_HEADERS, stream.id, pieces[-1]))

    def _frame_data(self, stream: Stream, data: Data, size: int, end: bool) -> None:
        stream.send_window -= size
        self._send_window -= size
        self._updates = 0
        out = self._out
        if not out:
            self._wake()
        out.append(HEADER.pack(size >> 8, size & 255, DATA, END_STREAM if end else 0, stream.id))
        if size:
            self._probed = False
            out.append(data)
        self._out_size += size + frames.HEADER_SIZE
        if end:
            self._local_end(stream)

    def _pump_data(self, stream: Stream, outbox: deque[Data | list[Pair]], item: Data) -> None:
        size = min(len(item), stream.send_window, self._send_window, self._largest) if item else 0
        if size == len(item):
            outbox.popleft()
            self._frame_data(stream, item, size, stream.end_queued and not outbox)
        else:
            view = memoryview(item)  # the rest is not copied for every frame
            outbox[0] = view[size:]
            self._frame_data(stream, view[:size], size, False)
        if size:
            self._handler.on_sent(stream, size)

    def _queue(self, stream: Stream, item: bytes | list[Pair], end: bool) -> None:
        outbox = stream.outbox
        if outbox is None:
            outbox = stream.outbox = deque()
        last = outbox[-1] if outbox else None
        if isinstance(item, bytes) and isinstance(last, bytes) and len(last) < SMALL:
            outbox[-1] = last + item
        else:
            outbox.append(item)
        stream.end_queued = end
        self._waiting[stream] = None

    def _local_end(self, stream: Stream) -> None:
        stream.local_done = True
        if stream.remote_done:
            if self._answered < FORGIVEN:
                self._answered += 1
            self.streams.pop(stream.id, None)
        elif stream.last_word >= 0:
            self.reset(stream, stream.last_word)

    def reset(self, stream: Stream, code: int) -> None:
        """Give a stream up."""
        raise NotImplementedError
