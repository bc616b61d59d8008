"""The streams of one SPDY connection, for the side that accepts them.

A stream that nobody reads holds up the whole connection once its buffer is full: these clients know no
windows of their own, and a bounded buffer is worth more than streams that cannot hinder each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from localmesh.streams import spdy
from localmesh.streams.contract import ClientGoneError
from localmesh.streams.duplex import ByteStream

STREAM_BUFFER: Final = 256 * 1024
"""Bytes a stream keeps for its reader before the connection is left unread."""
CHUNK: Final = 32 * 1024
MAX_STREAMS: Final = 512


class Stream:
    """One stream: read and write like a socket, each direction with its own end."""

    def __init__(self, connection: Connection, number: int, headers: dict[str, str], *, ended: bool) -> None:
        self.number = number
        self.headers = headers
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = ended
        self._finished = False
        self._unread = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def over(self) -> bool:
        """Both directions have ended."""
        return self._ended and self._finished

    async def read(self) -> bytes:
        """Some bytes, b"" at the end (also when the peer reset the stream)."""
        while not self._chunks:
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = self._chunks.popleft()
        self._size -= len(data)
        self._room.set()
        return data

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the connection or this stream is gone."""
        for start in range(0, len(data), CHUNK):
            if self._finished:
                raise ConnectionResetError(f"stream {self.number} is closed")
            await self._connection.send(spdy.Data(self.number, data[start : start + CHUNK]))

    async def finish(self) -> None:
        """Say that nothing more will be written."""
        if not self._finished:
            self._finished = True
            await self._connection.send(spdy.Data(self.number, b"", fin=True))
            self._connection.forget_if_over(self)

    def ignore(self) -> None:
        """Nobody will read what still comes: it is thrown away, so that it cannot hold up the others."""
        self._unread = True
        self._chunks.clear()
        self._size = 0
        self._room.set()

    # --- from the connection ----------------------------------------------------------------------------

    async def put(self, frame: spdy.Data) -> None:
        if frame.payload and not self._ended and not self._unread:
            self._chunks.append(frame.payload)
            self._size += len(frame.payload)
            self._news.set()
        if frame.fin:
            self.end()
        while self._size > STREAM_BUFFER:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def cut(self) -> None:
        """The peer reset the stream, or the connection is gone."""
        self._finished = True
        self.end()


class Connection:
    """The accepting side of SPDY/3.1 on any stream of bytes."""

    def __init__(self, wire: ByteStream, max_streams: int = MAX_STREAMS) -> None:
        self._wire = wire
        self._max_streams = max_streams
        self._decoder = spdy.Decoder()
        self._encoder = spdy.Encoder()
        self._sending = asyncio.Lock()
        self._streams: dict[int, Stream] = {}
        self._last = 0
        self._pings = 0
        self.traffic = 0
        """Grows with every frame that carries data, in either direction."""

    async def serve(self, accept: Callable[[Stream], bool]) -> None:
        """Read until the peer is gone, then raise ClientGoneError. `accept`: is a stream wanted?"""
        try:
            while data := await self._wire.read():
                for frame in self._decoder.feed(data):
                    await self._take(frame, accept)
        except spdy.SpdyError as error:
            await self.send(spdy.GoAway(self._last, spdy.PROTOCOL_ERROR))
            raise ClientGoneError(f"the client broke the protocol: {error}") from error
        except ConnectionError as error:
            raise ClientGoneError(str(error)) from error
        finally:
            for stream in list(self._streams.values()):
                stream.cut()
        raise ClientGoneError("the client closed the connection")

    async def send(self, frame: spdy.Frame) -> None:
        async with self._sending:  # header blocks share one compressor: order on the wire is order here
            await self._wire.write(self._encoder.encode(frame))
        if isinstance(frame, spdy.Data):
            self.traffic += 1

    async def ping(self) -> None:
        """Make the transport notice a peer that is gone. What is answered does not matter."""
        self._pings += 2  # even numbers are the server's (2.6.5)
        await self.send(spdy.Ping(self._pings & spdy.STREAM_MASK))

    async def reset(self, stream: Stream, status: int) -> None:
        stream.cut()
        self._streams.pop(stream.number, None)
        await self.send(spdy.RstStream(stream.number, status))

    def forget_if_over(self, stream: Stream) -> None:
        if stream.over:
            self._streams.pop(stream.number, None)

    async def _take(self, frame: spdy.Frame, accept: Callable[[Stream], bool]) -> None:
        match frame:
            case spdy.Data():
                self.traffic += 1
                stream = self._streams.get(frame.stream)
                if stream is not None:
                    await stream.put(frame)
                    self.forget_if_over(stream)
            case spdy.SynStream():
                await self._open(frame, accept)
            case spdy.RstStream():
                stream = self._streams.pop(frame.stream, None)
                if stream is not None:
                    stream.cut()
            case spdy.Ping() if frame.number % 2:  # odd: the client's own, to be sent back
                await self.send(frame)
            case _:
                pass  # settings, windows, late headers, a farewell: nothing here depends on them

    async def _open(self, frame: spdy.SynStream, accept: Callable[[Stream], bool]) -> None:
        if frame.stream % 2 == 0 or frame.stream <= self._last:
            raise spdy.SpdyError(f"stream {frame.stream} cannot be opened after {self._last}")
        self._last = frame.stream
        if len(self._streams) >= self._max_streams:
            await self.send(spdy.RstStream(frame.stream, spdy.REFUSED_STREAM))
            return
        stream = Stream(self, frame.stream, dict(frame.headers), ended=frame.fin)
        self._streams[frame.stream] = stream
        await self.send(spdy.SynReply(frame.stream))
        if not accept(stream):
            await self.reset(stream, spdy.PROTOCOL_ERROR)
