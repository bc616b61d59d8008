"""Overhears which server name a client asks for in TLS that the proxy passes on unopened.

No byte waits for it: what arrives goes on at once, and the listener leaves when it has heard enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from dataplane.serve.tunnel import End
from dataplane.telemetry import Telemetry
from dataplane.wire.client_hello import TLS_BEGINS, server_name

_MAX_NAMES: Final = 100
"""Names counted one by one; a client can ask for any, so the rest share a series."""

_log = logging.getLogger("dataplane.tls")


class ServerNames:
    """Counts and logs the names of one direction."""

    def __init__(self, telemetry: Telemetry, direction: str) -> None:
        self._direction = direction
        self._counter = telemetry.counter(
            "smi_mesh_tls_passthrough_total",
            "TLS connections passed on unopened, by the server name that the client asked for.",
            ("direction", "service", "server_name"),
            _MAX_NAMES,
        )

    def listen(self, transport: asyncio.Transport, data: bytes, end: End, service: str, to: str) -> None:
        """Make `end` the protocol of a transport of which `data` was read, and listen to its first bytes.

        `service`: to count it under, `to`: to log.
        """

        def heard(name: str) -> None:
            self._counter.add((self._direction, service, name))
            _log.debug("%s TLS to %s asks for %s", self._direction, to, name or "no server name")

        _Listener(end, heard).adopt(transport, data)


class _Listener(asyncio.Protocol):
    """Stands before a tunnel's end until a ClientHello has passed, or something else."""

    __slots__ = ("_data", "_end", "_heard", "_transport")

    def __init__(self, end: End, heard: Callable[[str], None]) -> None:
        self._end = end
        self._heard = heard
        self._data = b""
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by adopt

    def adopt(self, transport: asyncio.Transport, data: bytes) -> None:
        self._transport = transport
        self._end.adopt(transport)
        transport.set_protocol(self)
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        self._data += data
        name = server_name(self._data)
        if name is not None:
            self._transport.set_protocol(self._end)
            if self._data.startswith(TLS_BEGINS):
                self._heard(name)
        self._end.data_received(data)

    def eof_received(self) -> bool:
        return self._end.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.connection_lost(exc)

    def pause_writing(self) -> None:
        self._end.pause_writing()

    def resume_writing(self) -> None:
        self._end.resume_writing()
