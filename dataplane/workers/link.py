"""The socket between the first process and a worker: JSON objects, one per line, either way.

Both ends are processes of one sidecar, joined by a socket pair that nobody else has: there is no
handshake and no version. A line may hold the private key, so no line is ever logged.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

MAX_LINE: Final = 64 << 20
"""Bytes; as much as all counters, or a full config, may take."""
_MAX_UNSENT: Final = 64 << 20

Message = Mapping[str, Any]


class Link:
    """One end. `open`, then `receive` until the other end closes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._sock, limit=MAX_LINE)

    def send(self, kind: str, **fields: object) -> None:
        """Queue one message; without effect once the link has ended."""
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            return
        writer.write(json.dumps({"type": kind, **fields}, separators=(",", ":")).encode() + b"\n")
        if writer.transport.get_write_buffer_size() > _MAX_UNSENT:
            writer.transport.abort()  # the other end hangs; it will be replaced

    async def receive(self, take: Callable[[Message], None]) -> None:
        """Hand over each message; returns when the other end has closed, or broken off."""
        assert self._reader is not None
        try:
            while (line := await self._reader.readline()).endswith(b"\n"):
                take(json.loads(line))
        except (ConnectionError, ValueError):  # ValueError: a line beyond the limit
            pass
        finally:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
