"""A controller for tests: speaks the signing and discovery protocols of the contract over real TLS.

It decides nothing: tests tell it what to answer and look at what it was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataplane.control.keys import make_key_and_request
from dataplane.control.signing import Key
from smi.names import pod_dns_san
from tests.dataplane.control.authority import CONTROLLER, TRUST_DOMAIN, Authority

POD_URI = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/web"
TOKEN = "a-projected-token"
DEADLINE = 10.0


async def key_made_here(_seconds: float) -> Key:
    """As the proxy's own process for it makes one, without the tenth of a second that the process takes."""
    private, request = make_key_and_request()
    return Key(private, request.decode())


class Stream:
    """One discovery stream as the controller sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.certificate = writer.get_extra_info("peercert")

    async def receive(self, kind: str | None = None) -> dict[str, Any]:
        """The next message (of that type); pings are answered on the way."""
        async with asyncio.timeout(DEADLINE):
            while True:
                line = await self._reader.readline()
                if not line:
                    raise EOFError("the proxy closed the stream")
                message: dict[str, Any] = json.loads(line)
                if message["type"] == "ping" and kind != "ping":
                    self.send(type="pong")
                elif kind is None or message["type"] == kind:
                    return message

    def send(self, **message: Any) -> None:
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        self._writer.write(data)

    def update(
        self, revision: int, resources: dict[str, Any], removed: tuple[str, ...] = (), full: bool = False
    ) -> None:
        self.send(type="update", revision=revision, full=full, resources=resources, removed=list(removed))

    async def wait_closed(self) -> None:
        """Return when the proxy has closed its side."""
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass

    def close(self) -> None:
        self._writer.transport.abort()


class StandIn:
    """Both servers. `refuse` makes signing fail with that text; `leaf_seconds` is a certificate's life."""

    def __init__(self, folder: Path, authority: Authority | None = None) -> None:
        self.authority = authority or Authority()
        self.leaf_seconds = 3600.0
        self.refuse: str | None = None
        self.uri = CONTROLLER
        self.requests: list[dict[str, Any]] = []
        self.raw_answer: bytes | None = None
        self.identity_port = 0
        self.discovery_port = 0
        self._folder = folder
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self._open: list[Stream] = []
        self._servers: list[asyncio.Server] = []
        self.on_stream: Callable[[Stream], None] = self.streams.put_nowait

    async def start_identity(self, port: int = 0) -> None:
        context = self.authority.server_context(self._folder, self.uri, mutual=False)
        self.identity_port = await self._listen(self._sign, context, port)

    async def start_discovery(self, port: int = 0) -> None:
        context = self.authority.server_context(self._folder, self.uri, mutual=True)
        self.discovery_port = await self._listen(self._discover, context, port)

    async def next_stream(self) -> Stream:
        """The next stream that a proxy opens."""
        async with asyncio.timeout(DEADLINE):
            return await self.streams.get()

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for stream in self._open:
            stream.close()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    async def _listen(self, handle: Any, context: ssl.SSLContext, port: int) -> int:
        server = await asyncio.start_server(handle, "127.0.0.1", port, ssl=context, limit=16 << 20)
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def _discover(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream(reader, writer)
        self._open.append(stream)
        self.on_stream(stream)

    async def _sign(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            body = json.loads(await reader.readexactly(int(headers[b"content-length"])))
            self.requests.append({"line": head.split(b"\r\n")[0].decode(), **body})
            writer.write(self.raw_answer if self.raw_answer is not None else self._answer(body))
            await writer.drain()
        writer.close()

    def _answer(self, body: dict[str, Any]) -> bytes:
        if self.refuse is not None:
            return http_answer(403, {"error": self.refuse})
        certificate, end = self.authority.sign(
            body["csr"], POD_URI, [pod_dns_san("shop", "web-1")], self.leaf_seconds
        )
        return http_answer(
            200, {"certificates": certificate, "trust_bundle": self.authority.bundle, "not_after": end}
        )


def http_answer(status: int, value: Any) -> bytes:
    """A JSON response."""
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)
