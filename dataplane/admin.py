"""The admin listener: /ready, /live, /metrics, /samples and /config over a minimal HTTP/1.1.

One request per connection, bounded in size, time and number of connections; a pod's application
cannot use it to harm its proxy. /config names other workloads, so only the pod itself gets it.
What the answers say comes from callbacks; this module must not know config or counters.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qsl

from smi.names import APP_CHECKS, WITHDRAWN

MAX_HEAD: Final = 8192
"""Bytes of a request's head."""
MAX_CONNECTIONS: Final = 64
EXCHANGE_SECONDS: Final = 10.0
"""A connection that is not done after this long is cut, unless its answer takes its time by design."""

TURN_SECONDS: Final = 0.001
"""A scrape is written for so long at a time, between two turns of everything else."""

_SLOW: Final = (APP_CHECKS.encode(), WITHDRAWN.encode())
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class Scrape(Protocol):
    """An answer in the making."""

    @property
    def content_type(self) -> str: ...
    @property
    def steps(self) -> Iterator[None]:
        """To be used up, with pauses."""

    @property
    def body(self) -> Callable[[], bytes]:
        """The whole, then."""


@dataclass(frozen=True, slots=True)
class Views:
    """What the paths show. `unready` is the reason why the proxy is not ready, or "" if it is."""

    unready: Callable[[], str]
    scrape: Callable[[str, str], Scrape]
    """(dialects asked for or "", Accept field) → the answer to a scrape; raises ValueError."""
    samples: Callable[[int | None], Mapping[str, Any]]
    """Seconds of the window, or None for all time → what /samples shows; raises ValueError."""
    config: Callable[[], Mapping[str, Any]]
    refresh: Callable[[Callable[[], None]], None] = lambda then: then()
    """Calls back once /metrics and /samples can be answered: at once where all is counted in one process."""
    begin: Callable[[str, Callable[[str], None]], bool] = lambda _path, _then: False
    """Begins what takes its time: calls back with "" if it went well, else why not. False: no such path."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, without its connection headers."""

    status: int
    body: bytes
    content_type: str = _TEXT


def answer(views: Views, method: bytes, target: bytes, own_pod: bool, accept: str = "") -> Answer | Scrape:
    """The answer to one request. `own_pod`: the caller is the pod itself; `accept`: its Accept field."""
    if method not in (b"GET", b"HEAD"):
        return Answer(405, b"only GET and HEAD\n")
    path, _, query = target.partition(b"?")
    if path == b"/live":
        return Answer(200, b"alive\n")
    if path == b"/ready":
        reason = views.unready()
        return Answer(503, f"not ready: {reason}\n".encode()) if reason else Answer(200, b"ready\n")
    if path in (b"/metrics", b"/samples"):
        try:
            return _counted(views, path, _parameters(query), accept)
        except ValueError as error:
            return Answer(400, f"{error}\n".encode("utf-8", "backslashreplace"))
    if path == b"/config":
        if not own_pod:
            return Answer(403, b"only from inside the pod\n")
        return Answer(200, json.dumps(views.config(), indent=1).encode() + b"\n", _JSON)
    return Answer(404, b"there are /ready, /live, /metrics, /samples and /config\n")


def _counted(views: Views, path: bytes, given: Mapping[str, str], accept: str) -> Answer | Scrape:
    if path == b"/metrics":
        return views.scrape(given.get("dialects", ""), accept)
    text = given.get("window")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError(f"window: expected whole seconds, got {text[:40]!r}")
    samples = views.samples(None if text is None else int(text))
    return Answer(200, json.dumps(samples, separators=(",", ":")).encode() + b"\n", _JSON)


def _parameters(query: bytes) -> Mapping[str, str]:
    """The last value of every parameter of a query."""
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=16))


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
        line, *fields = bytes(self._head[:end]).split(b"\r\n")
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            self._finish(b"", Answer(400, b"not an HTTP/1.1 request\n"))
            return
        peer = self._transport.get_extra_info("peername")
        own_pod = bool(peer) and self._admin.is_own_pod(peer[0])
        if words[1].startswith(_SLOW) and words[0] in (b"GET", b"HEAD"):
            self._begin(words[0], words[1])
        elif words[1].startswith((b"/metrics", b"/samples")):
            self._transport.pause_reading()
            self._admin.views.refresh(lambda: self._answer(words[0], words[1], own_pod, _accept(fields)))
        else:
            self._answer(words[0], words[1], own_pod, _accept(fields))

    def _begin(self, method: bytes, target: bytes) -> None:
        """Answer when it is done; whoever asked has a time-out of its own."""
        assert self._transport is not None
        self._transport.pause_reading()
        path = target.partition(b"?")[0].decode("latin-1")
        if not self._admin.views.begin(path, lambda problem: self._done(method, problem)):
            self._finish(method, Answer(404, b"there is no such check\n"))
        elif self._deadline is not None:
            self._deadline.cancel()

    def _done(self, method: bytes, problem: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            text = f"failed: {problem}\n".encode("utf-8", "backslashreplace")
            self._finish(method, Answer(503, text) if problem else Answer(200, b"ok\n"))

    def _answer(self, method: bytes, target: bytes, own_pod: bool, accept: str) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        reply = answer(self._admin.views, method, target, own_pod, accept)
        if isinstance(reply, Answer):
            self._finish(method, reply)
        else:
            self._transport.pause_reading()
            self._write_on(method, reply)

    def _write_on(self, method: bytes, scrape: Scrape) -> None:
        """Go on with a scrape for one turn."""
        if self._transport is None or self._transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN_SECONDS
        for _ in scrape.steps:
            if loop.time() >= until:
                # Not `call_soon`: what has become readable meanwhile comes first.
                loop.call_later(0.0, self._write_on, method, scrape)
                return
        self._finish(method, Answer(200, scrape.body(), scrape.content_type))

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


def _accept(fields: list[bytes]) -> str:
    """All Accept fields of a head as one value (RFC 9110 §5.3)."""
    found = (field.partition(b":") for field in fields)
    values = (value.strip() for name, _, value in found if name.strip().lower() == b"accept")
    return b",".join(values).decode("latin-1")
