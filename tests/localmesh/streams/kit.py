"""A server of streams on loopback, and a SPDY client made of the codec: what kubectl before 1.31 is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from localmesh.streams import spdy

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """The port of an HTTP server that answers with `handler`, set up as the API server is."""
    server = web.Server(handler, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass
class Received:
    """What came on one stream."""

    data: bytes = b""
    ended: bool = False
    reset: int = 0


@dataclass
class SpdyClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str
    """Status line and fields of the answer."""
    streams: dict[int, Received] = field(default_factory=dict)
    replied: set[int] = field(default_factory=set)
    pings: list[int] = field(default_factory=list)
    goaway: int | None = None
    closed: bool = False
    _encoder: spdy.Encoder = field(default_factory=spdy.Encoder)
    _decoder: spdy.Decoder = field(default_factory=spdy.Decoder)
    _next: int = 1

    def send(self, frame: spdy.Frame) -> None:
        self.writer.write(self._encoder.encode(frame))

    def open(self, **headers: str) -> int:
        number, self._next = self._next, self._next + 2
        self.streams[number] = Received()
        self.send(spdy.SynStream(number, headers))
        return number

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Read frames until `condition()`; AssertionError `what` when the connection ends before."""
        async with asyncio.timeout(10):
            while not condition():
                data = await self.reader.read(65536)
                if not data:
                    self.closed = True
                    assert condition(), f"the connection ended before: {what}"
                    return
                for frame in self._decoder.feed(data):
                    self._take(frame)

    async def until_closed(self) -> None:
        await self.until(lambda: self.closed, "it is closed")

    def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Data(stream, payload, fin):
                self.streams[stream].data += payload
                self.streams[stream].ended |= fin
            case spdy.SynReply(stream):
                self.replied.add(stream)
            case spdy.RstStream(stream, status):
                self.streams[stream].reset = status
            case spdy.Ping(number):
                self.pings.append(number)
            case spdy.GoAway(_, status):
                self.goaway = status
            case _:
                raise AssertionError(f"unexpected {frame}")


@asynccontextmanager
async def spdy_client(port: int, path: str, *versions: str) -> AsyncIterator[SpdyClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = [f"X-Stream-Protocol-Version: {version}\r\n" for version in versions]
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        f"Content-Length: 0\r\n{''.join(fields)}\r\n".encode()
    )
    try:
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        yield SpdyClient(reader, writer, head)
    finally:
        writer.close()
