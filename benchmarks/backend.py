"""The server behind every proxy: `python -m benchmarks.backend PORT STREAM_PORT DATAGRAM_PORT`.

HTTP/1.1 at PORT: 100 bytes for any path, `/bytes/N` for N bytes, bodies of requests are read and
dropped. At STREAM_PORT a connection that begins with `D` is sent bytes for ever, any other is read. Datagrams
come back from DATAGRAM_PORT.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any, Final

import uvloop

_BLOCK: Final = b"x" * (1 << 18)
_SMALL: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\n" + b"x" * 100
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_BYTES: Final = re.compile(rb"GET /bytes/([0-9]+) ")


class _Http(asyncio.Protocol):
    """Trusts its peers: heads arrive whole or not at all."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._unread = 0
        self._unsent = 0
        self._head = b""

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._unread -= len(data)
            if self._unread <= 0:
                self._unread = 0
                self._transport.write(_SMALL)
            return
        data = self._head + data if self._head else data
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._head = data
            return
        self._head = b""
        length = _LENGTH.search(data, 0, end)
        if length is not None and int(length[1]):
            self._unread = int(length[1]) - (len(data) - end)
            if self._unread <= 0:
                self._unread = 0
                self._transport.write(_SMALL)
            return
        wanted = _BYTES.match(data)
        if wanted is None:
            self._transport.write(_SMALL)
        else:
            self._unsent = int(wanted[1])
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self._unsent)
            self._send()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._send()

    def _send(self) -> None:
        self._blocked = False
        while self._unsent and not self._blocked:
            piece = _BLOCK[: self._unsent]
            self._unsent -= len(piece)
            self._transport.write(piece)


class _Stream(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._sends: bool | None = None
        self._blocked = False

    def data_received(self, data: bytes) -> None:
        if self._sends is None:
            self._sends = data.startswith(b"D")
            self.resume_writing()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        while self._sends and not self._blocked and not self._transport.is_closing():
            self._transport.write(_BLOCK)


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._transport.sendto(data, address)


async def _serve(port: int, stream_port: int, datagram_port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Echo, ("0.0.0.0", datagram_port))  # noqa: S104 - reached from other namespaces
    # Every loopback address is a pod's here.
    await loop.create_server(_Stream, "0.0.0.0", stream_port, backlog=4096)  # noqa: S104 - reached from other namespaces
    server = await loop.create_server(_Http, "0.0.0.0", port, backlog=4096)  # noqa: S104 - reached from other namespaces
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(*map(int, sys.argv[1:])))
