"""Listeners of the test application: a handler per HTTP request, drained on stop.

It knows connections and nothing of what is answered. A handler returns a whole `Response`; a
request that asks for an upgrade is answered 101 and its bytes are echoed (a tunnel test).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from conformance.app.http1 import (
    MAX_HEAD,
    BadMessageError,
    Request,
    Response,
    encode_response,
    read_request_body,
    read_request_head,
    wants_close,
)

Handler = Callable[[Request], Awaitable[Response]]
"""Answers one request. It must not raise: an exception is answered 500 and the connection closed."""


class HttpServer:
    """One HTTP/1.1 listener. `port` is the real port, also when 0 was asked for."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listener: asyncio.Server | None = None
        self._waiting: set[asyncio.StreamWriter] = set()
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._stopping = False

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the address cannot be bound."""
        self._listener = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD, backlog=512)

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self, deadline: float) -> None:
        """Stop listening, close idle connections, wait at most `deadline` seconds for the busy ones."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        for writer in list(self._waiting):
            writer.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), deadline)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._serve_one(reader, writer):
                pass
        except BadMessageError as error:
            with suppress(OSError):
                writer.write(encode_response(Response(400, body=f"{error}\n".encode()), close=True))
                await writer.drain()
        except (OSError, EOFError):
            pass  # the peer went away; there is nobody left to tell
        finally:
            self._waiting.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False when the connection is to end."""
        self._waiting.add(writer)
        head = await read_request_head(reader)
        if head is not None and head.version == "HTTP/2.0":
            await self._serve_http2(reader, writer)
            return False
        self._waiting.discard(writer)
        if head is None:
            return False
        self._busy += 1
        self._quiet.clear()
        try:
            return await self._answer(head, reader, writer)
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def _serve_http2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from conformance.app.http2 import Http2  # here: others start with the standard library

        await Http2(reader, writer, client=False).serve(self._handler)

    async def _answer(
        self, head: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if head.header("upgrade") is not None:
            await _tunnel(head, reader, writer)
            return False
        if (head.header("expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = replace(head, body=await read_request_body(reader, head))
        response = await self._handler(request)
        close = self._stopping or wants_close(head.version, head.headers)
        writer.write(encode_response(response, head_only=head.method == "HEAD", close=close))
        await writer.drain()
        return not close


async def _tunnel(head: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    upgrade = head.header("upgrade") or ""
    accepted = Response(101, (("connection", "upgrade"), ("upgrade", upgrade)))
    writer.write(encode_response(accepted))
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
