"""A connection of which nobody knows yet what is spoken: listens to both sides, then makes way.

A client that speaks HTTP does so at once. One that says nothing may be waiting for its server's
greeting (MySQL, SMTP), so after a moment the server is connected as well, and whoever speaks first
decides: a server's bytes make it an opaque connection, a client's are looked at. How long the moment
is follows from what was heard at that destination before (`core.openings`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from dataplane.serve.tunnel import Tunnel
from dataplane.wire.sniff import Spoken, guess, sniff


class Sides(Protocol):
    """What an undecided connection can become."""

    def call(self, heard: Callable[[bool], None]) -> Tunnel | None:
        """Connect the server of an opaque connection; None if there is none to be heard.

        `heard(spoke)` is called once: it spoke (or ended its side), or it cannot be had.
        """

    def request(self, transport: asyncio.Transport, data: bytes) -> None:
        """It is HTTP."""

    def opaque(self, transport: asyncio.Transport, data: bytes, tunnel: Tunnel | None, greeted: bool) -> None:
        """It is not. `tunnel` leads to the server that was called, `greeted`: it spoke first."""


class Sniffer(asyncio.Protocol):
    """Decides once, with all bytes read; never after the client has gone.

    `head_start`: seconds before a silent client's server is called. `silence`: seconds for the rest
    of a beginning that may become a request, and for a silent client whose server cannot be had.
    """

    __slots__ = ("_data", "_head_start", "_sides", "_silence", "_timer", "_transport", "_tunnel")

    def __init__(self, head_start: float, silence: float, sides: Sides) -> None:
        self._head_start = head_start
        self._silence = silence
        self._sides = sides
        self._data = b""
        self._tunnel: Tunnel | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by adopt

    def adopt(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Become the protocol of a transport in use, of which `data` was read already."""
        self._transport = transport
        transport.set_protocol(self)
        transport.resume_reading()
        if data:
            self.data_received(data)
        elif self._head_start > 0:
            self._wait(self._head_start, self._call)
        else:
            self._call()

    # --- the client --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        first = not self._data
        self._data += data
        spoken = sniff(self._data)
        if spoken is not None:
            self._settle(spoken)
        elif first:
            self._wait(self._silence, self._give_up)

    def eof_received(self) -> bool:
        if not self._data and self._tunnel is None:
            return False  # it came to see whether somebody listens
        self._transport.pause_reading()
        self._give_up()
        # The protocol that took over must learn of the end that came before it.
        return bool(cast("asyncio.Protocol", self._transport.get_protocol()).eof_received())

    def connection_lost(self, _exc: Exception | None) -> None:
        self._stop()
        if self._tunnel is not None:
            self._tunnel.drop()

    # --- the server --------------------------------------------------------------------------------

    def _call(self) -> None:
        self._stop()
        self._tunnel = self._sides.call(self._heard)
        if self._tunnel is None:
            self._wait(self._silence, self._give_up)

    def _heard(self, spoke: bool) -> None:
        if spoke:
            self._stop()
            self._sides.opaque(self._transport, self._data, self._tunnel, True)
        elif self._timer is None:
            self._wait(self._silence, self._give_up)

    # --- the decision ------------------------------------------------------------------------------

    def _give_up(self) -> None:
        self._settle(guess(self._data))

    def _settle(self, spoken: Spoken) -> None:
        self._stop()
        tunnel = self._tunnel
        if spoken in (Spoken.HTTP1, Spoken.HTTP2):
            if tunnel is not None:
                tunnel.drop()
            self._sides.request(self._transport, self._data)
        else:
            self._sides.opaque(self._transport, self._data, tunnel, False)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
