"""The admin listener: /ready, /live, /metrics and /config over a minimal HTTP/1.1.

One request per connection, bounded in size, time and number of connections; a pod's application
cannot use it to harm its proxy. /config names other workloads, so only the pod itself gets it.
What the answers say comes from callbacks; this module must not know config or counters.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

MAX_HEAD: Final = 8192
"""Bytes of a request's head."""
MAX_CONNECTIONS: Final = 64
EXCHANGE_SECONDS: Final = 10.0
"""A connection that is not done after this long is cut."""

_TEXT: Final = "text/plain; charset=utf-8"
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Views:
    """What the paths show. `unready` is the reason why the proxy is not ready, or "" if it is."""

    unready: Callable[[], str]
    metrics: Callable[[], bytes]
    metrics_type: str
    config: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, without its connection headers."""

    status: int
    body: bytes
    content_type: str = _TEXT


def answer(views: Views, method: bytes, target: bytes, own_pod: bool) -> Answer:
    """The answer to one request. `own_pod`: the caller is the pod itself."""
    if method not in (b"GET", b"HEAD"):
        return Answer(405, b"only GET and HEAD\n")
    path = target.partition(b"?")[0]
    if path == b"/live":
        return Answer(200, b"alive\n")
    if path == b"/ready":
        reason = views.unready()
        return Answer(503, f"not ready: {reason}\n".encode()) if reason else Answer(200, b"ready\n")
    if path == b"/metrics":
        return Answer(200, views.metrics(), views.metrics_type)
    if path == b"/config":
        if not own_pod:
            return Answer(403, b"only from inside the pod\n")
        return Answer(200, json.dumps(views.config(), indent=1).encode() + b"\n", "application/json")
    return Answer(404, b"there are /ready, /live, /metrics and /config\n")


class Admin:
    """The running listener. `pod_ip` is the pod's own address."""

    def __init__(self, views: Views, pod_ip: str) -> None:
        self.views = views
        self._pod_ip = pod_ip
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (of interest if 0 was asked for)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=64)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._open):
                connection.cut()
            await self._server.wait_closed()

    def is_own_pod(self, address: str) -> bool:
        """Whether a caller with this IP address is the pod itself."""
        return address == self._pod_ip or ipaddress.ip_address(address.partition("%")[0]).is_loopback

    def enter(self, connection: _Connection) -> bool:
        """Note a new connection; False if there are too many."""
        if len(self._open) >= MAX_CONNECTIONS:
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)


class _Connection(asyncio.Protocol):
    """Reads one head, writes one answer, closes."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's
        self._transport = cast("asyncio.Transport", transport)
        if not self._admin.enter(self):
            self._transport.abort()
            return
        self._deadline = asyncio.get_running_loop().call_later(EXCHANGE_SECONDS, self.cut)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._admin.leave(self)
        if self._deadline is not None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= MAX_HEAD:
            return
        if end < 0 or end > MAX_HEAD:
            self._finish(b"", Answer(431, f"a head has at most {MAX_HEAD} bytes\n".encode()))
            return
        words = bytes(self._head[:end]).split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            self._finish(b"", Answer(400, b"not an HTTP/1.1 request\n"))
            return
        peer = self._transport.get_extra_info("peername")
        own_pod = bool(peer) and self._admin.is_own_pod(peer[0])
        self._finish(words[0], answer(self._admin.views, words[0], words[1], own_pod))

    def cut(self) -> None:
        """Close without finishing."""
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, method: bytes, reply: Answer) -> None:
        assert self._transport is not None
        head = (
            f"HTTP/1.1 {reply.status} {_PHRASES[reply.status]}\r\ncontent-type: {reply.content_type}\r\n"
            f"content-length: {len(reply.body)}\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + (b"" if method == b"HEAD" else reply.body))
        self._transport.close()
