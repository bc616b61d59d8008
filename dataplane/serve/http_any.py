"""A connection that speaks HTTP: of which version, its first bytes say (RFC 9113 §3.3)."""

from __future__ import annotations

import asyncio

from dataplane.serve.gate import Gate, Serving
from dataplane.serve.http2_server import DownstreamLink
from dataplane.serve.http_server import Downstream
from dataplane.serve.registry import NEVER
from dataplane.wire.http2 import PREFACE


class Opening(asyncio.Protocol):
    """Waits for the first bytes, then makes way; keeps HTTP/1.1 clients waiting for nothing."""

    __slots__ = ("_data", "_gate", "_serving", "_transport", "deadline")

    def __init__(self, serving: Serving, gate: Gate) -> None:
        self._serving = serving
        self._gate = gate
        self._data = b""
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by adopt
        self.deadline = NEVER

    def adopt(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Become the protocol of a transport in use, of which `data` was read already."""
        self._transport = transport
        self.deadline = self._serving.loop.time() + self._serving.limits.client_idle
        self._serving.registry.add(self)
        transport.set_protocol(self)
        transport.resume_reading()
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        data = self._data + data
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            self._serving.registry.forget(self)
            Downstream(self._serving, self._gate).adopt(self._transport, data)
        elif len(data) >= len(PREFACE):
            self._serving.registry.forget(self)
            DownstreamLink(self._serving, self._gate).adopt(self._transport, data)
        else:
            self._data = data
            self.deadline = self._serving.loop.time() + self._serving.limits.request_head

    def connection_lost(self, _exc: Exception | None) -> None:
        self._serving.registry.forget(self)

    def expire(self) -> None:
        self._transport.close()

    def drain(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
