"""A connection that was HTTP until a moment ago, as plain bytes both ways.

Two kinds: the connection itself after `101 Switching Protocols`, and the binary messages of a WebSocket.
Both are bounded: reading stops at the socket when nobody takes what came, writing waits for a slow client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from aiohttp import WSMsgType, web
from multidict import MultiMapping

READ_AHEAD: Final = 256 * 1024
"""Bytes kept unread before the socket is left alone."""


class ByteStream(Protocol):
    async def read(self) -> bytes:
        """What has come, b"" when the other side has closed."""

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the other side is gone."""


class Upgraded:
    """The bare connection. Made by `upgrade`."""

    def __init__(self, response: web.StreamResponse, transport: asyncio.Transport) -> None:
        self._response = response
        self._transport = transport
        self._pending = bytearray()
        self._ended = False
        self._held = False
        self._news = asyncio.Event()

    async def read(self) -> bytes:
        while not self._pending and not self._ended:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._pending)
        self._pending.clear()
        if self._held:
            self._held = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        await self._response.write(data)

    # --- as aiohttp calls it once the connection is ours ----------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._pending += data
        if len(self._pending) >= READ_AHEAD and not self._held:
            self._held = True
            self._transport.pause_reading()
        self._news.set()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._news.set()


def asked_upgrade(headers: MultiMapping[str]) -> str:
    """The protocol that a request wants to change to, in lower case; "" for none.

    Upgrade means nothing to a hop that Connection does not name it for (RFC 9110, 7.8).
    """
    tokens = {one.strip().lower() for line in headers.getall("Connection", []) for one in line.split(",")}
    return headers.get("Upgrade", "").strip().lower() if "upgrade" in tokens else ""


async def upgrade(
    request: web.BaseRequest, headers: Mapping[str, str], reason: str | None = None
) -> tuple[web.StreamResponse, Upgraded]:
    """Answer 101 and take over the connection. The response is what the handler returns in the end."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    response = web.StreamResponse(status=101, reason=reason, headers=headers)
    response.force_close()
    upgraded = Upgraded(response, transport)
    await response.prepare(request)
    # aiohttp feeds whatever `set_parser` was given; its signature names the one class it has itself.
    request.protocol.set_parser(cast("Any", upgraded))
    request.protocol.keep_alive(False)
    return response, upgraded


class WebSocketBytes:
    """Binary messages as one stream of bytes (`SPDY/3.1+…` subprotocols)."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:
                return cast("bytes", message.data)

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)
