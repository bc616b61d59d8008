"""One line per finished exchange, for who asks for it: off by default, sampled or failures only.

Lines are put in a bounded queue on the loop and written by somebody else (`take`), so that a reader of the
log that does not read cannot hold up a request; what does not fit is dropped and counted. Queries of paths
and values of header fields are not logged, but for the request's id and its trace's.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Final, NamedTuple

from dataplane.core.traces import trace_of
from dataplane.telemetry import MAX_SERIES, Edge
from smi.names import AccessLogging
from smi.policy.match import Request

MAX_WAITING: Final = 2000
"""Lines that wait to be written."""
MAX_TEXT: Final = 1024
"""Bytes of a method, path or id that are shown."""
FLUSH_SECONDS: Final = 0.2
_FAILURES: Final = 400
_GRPC_OK: Final = frozenset({"", "0"})


class _Finished(NamedTuple):
    """An exchange; `time` is Unix time, `seconds` what it took."""

    time: float
    edge: Edge
    head: Request
    status: int
    reason: str
    grpc: str
    seconds: float


class AccessLog:
    """The access log of one process. `dropped` counts lines that had no room."""

    __slots__ = ("_chance", "_clock", "_form", "_waiting", "dropped", "wish", "written")

    def __init__(self, wish: AccessLogging, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        """`clock`: Unix time; `chance`: a number in [0, 1), drawn where only a share is logged."""
        self.wish = wish
        self._form = _FORMS[wish.form]()
        self._clock = clock
        self._chance = chance
        self._waiting: list[str] = []
        self.written = 0
        """Lines taken."""
        self.dropped = 0

    def see(self, edge: Edge, head: Request, status: int, reason: str, grpc: str, seconds: float) -> None:
        """One finished exchange."""
        wish = self.wish
        if wish.failures and status and status < _FAILURES and not reason and grpc in _GRPC_OK:
            return
        if wish.share < 1.0 and self._chance() >= wish.share:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(self._form(_Finished(self._clock(), edge, head, status, reason, grpc, seconds)))

    def take(self) -> str:
        """What is to be written now, whole lines; "" if nothing."""
        lines, self._waiting = self._waiting, []
        self.written += len(lines)
        return "".join(lines)


async def pump(log: AccessLog, descriptor: int = 1) -> None:
    """Write what comes to `descriptor`, in a thread that may wait for its reader; for ever."""
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        text = log.take()
        if text:
            await asyncio.to_thread(_write, descriptor, text.encode())


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class _Json:
    """One object a line; what is empty is left out."""

    def __init__(self) -> None:
        self._second = 0
        self._moment = ""
        self._edges: dict[Edge, tuple[str, str]] = {}

    def __call__(self, done: _Finished) -> str:
        head = done.head
        before, after = self._edges.get(done.edge) or self._of_edge(done.edge)
        second = int(done.time)
        if second != self._second:
            self._second = second
            self._moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line = (
            f'{{"time": "{self._moment}.{int(done.time % 1 * 1000):03d}Z", "logger": "access"{before}'
            f"{_member('method', _text(head.method))}{_member('authority', _text(head.host))}"
            f'{_member("path", _path(head))}, "status": {done.status}'
        )
        if done.reason:
            line += _member("reason", done.reason)
        if done.grpc:
            line += _member("grpc_status", done.grpc)
        line += f', "ms": {round(done.seconds * 1000, 3)}{after}'
        line += _member("request_id", _text(head.header(b"x-request-id") or b""))
        return f"{line}{_member('trace_id', trace_of(head.header))}}}\n"

    def _of_edge(self, edge: Edge) -> tuple[str, str]:
        """What is the same for all exchanges of an edge: what goes before the request, and what after."""
        if len(self._edges) >= MAX_SERIES:
            self._edges.clear()
        names = ("peer", edge.pod), ("identity", edge.peer), ("service", edge.service)
        more = ("backend", edge.backend), ("split", edge.split)
        after = "".join(_member(name, value) for name, value in (*names, *more))
        found = self._edges[edge] = _member("direction", edge.direction), after
        return found


def _member(name: str, value: str) -> str:
    return f', "{name}": {encode_basestring_ascii(value)}' if value else ""


class _Common:
    """NCSA Common Log Format: host ident authuser [date] "request" status bytes; bytes are not known here."""

    def __init__(self) -> None:
        self._second = 0
        self._moment = ""

    def __call__(self, done: _Finished) -> str:
        edge, head = done.edge, done.head
        second = int(done.time)
        if second != self._second:
            self._second = second
            self._moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))
        request = _quoted(f"{_text(head.method)} {_path(head)}")
        return f'{edge.pod or "-"} - {edge.peer or "-"} [{self._moment}] "{request}" {done.status or "-"} -\n'


_FORMS: Final[Mapping[str, Callable[[], Callable[[_Finished], str]]]] = {"json": _Json, "clf": _Common}


def _path(head: Request) -> str:
    return _text(head.path.partition(b"?")[0])


def _text(value: bytes) -> str:
    return value[:MAX_TEXT].decode("latin-1")


def _quoted(text: str) -> str:
    """Without what could end the quotes or the line."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
