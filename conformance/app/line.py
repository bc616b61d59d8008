"""The TCP line service: every line is answered with `<name> <line>`; with `greet` it speaks first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from conformance.app.echo import Seen

MAX_LINE: Final = 64 * 1024

Reply = Callable[[str], str | None]
"""Answer to one line; None ends the connection."""


class LineServer:
    """One TCP listener for a line protocol. `greeting` is sent before anything is read, if not empty."""

    def __init__(self, reply: Reply, greeting: str, seen: Seen) -> None:
        self._reply = reply
        self._greeting = greeting
        self._seen = seen
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the address cannot be bound."""
        self._listener = await asyncio.start_server(self._serve, host, port, limit=MAX_LINE)

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._greeting:
                writer.write(f"{self._greeting}\n".encode())
                await writer.drain()
            await self._converse(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError):
            pass  # gone, or a line beyond the limit: closing is the answer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self._seen.lines += 1
            answer = self._reply(line.decode("utf-8", "replace").rstrip("\r\n"))
            if answer is None:
                return
            writer.write(f"{answer}\n".encode())
            await writer.drain()
