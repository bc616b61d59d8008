"""Finds out what a client speaks, then makes way.

Waits for the first bytes for a short time only: a server may be the one who speaks first, and its
client then sends nothing until it has heard from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from dataplane.wire.sniff import Spoken, guess, sniff


class Sniffer(asyncio.Protocol):
    """Calls `found(spoken, data)` once, with all bytes read; never after the client has gone."""

    __slots__ = ("_data", "_found", "_seconds", "_timer", "_transport")

    def __init__(self, seconds: float, found: Callable[[Spoken, bytes], None]) -> None:
        self._seconds = seconds
        self._found = found
        self._data = b""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by adopt

    def adopt(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Become the protocol of a transport in use, of which `data` was read already."""
        self._transport = transport
        transport.set_protocol(self)
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._silence)
        transport.resume_reading()
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        self._data += data
        spoken = sniff(self._data)
        if spoken is not None:
            self._settle(spoken)

    def eof_received(self) -> bool:
        if not self._data:
            return False
        self._transport.pause_reading()
        self._settle(guess(self._data))
        return self._tell_eof()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._stop()

    def _silence(self) -> None:
        self._settle(guess(self._data))

    def _settle(self, spoken: Spoken) -> None:
        self._stop()
        self._found(spoken, self._data)

    def _tell_eof(self) -> bool:
        """The protocol that took over must learn of the end that came before it."""
        protocol = cast("asyncio.Protocol", self._transport.get_protocol())
        return bool(protocol.eof_received())

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
