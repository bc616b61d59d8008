"""One line per finished exchange, for who asks for it: off by default, sampled or failures only.

Lines are put in a bounded queue on the loop and written by somebody else (`take`), so that a reader of the
log that does not read cannot hold up a request; what does not fit is dropped and counted. Queries of paths
and values of header fields are not logged, but for the request's id and its trace's.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from dataplane.core.traces import trace_of
from dataplane.telemetry import Edge
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
        self._form = _FORMS[wish.form]
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


def _json(done: _Finished) -> str:
    edge, head = done.edge, done.head
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(done.time))
    entry = {
        "time": f"{moment}.{int(done.time % 1 * 1000):03d}Z",
        "logger": "access",
        "direction": edge.direction,
        "method": _text(head.method),
        "authority": _text(head.host),
        "path": _path(head),
        "status": done.status,
        "reason": done.reason,
        "grpc_status": done.grpc,
        "ms": round(done.seconds * 1000, 3),
        "peer": edge.pod,
        "identity": edge.peer,
        "service": edge.service,
        "backend": edge.backend,
        "split": edge.split,
        "request_id": _text(head.header(b"x-request-id") or b""),
        "trace_id": trace_of(head.header),
    }
    return json.dumps({key: value for key, value in entry.items() if value != ""}) + "\n"


def _common(done: _Finished) -> str:
    """NCSA Common Log Format: host ident authuser [date] "request" status bytes; bytes are not known here."""
    edge, head = done.edge, done.head
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(done.time))
    host = edge.pod or "-"
    request = _quoted(f"{_text(head.method)} {_path(head)}")
    return f'{host} - {edge.peer or "-"} [{moment}] "{request}" {done.status or "-"} -\n'


_FORMS: Final = {"json": _json, "clf": _common}


def _path(head: Request) -> str:
    return _text(head.path.partition(b"?")[0])


def _text(value: bytes) -> str:
    return value[:MAX_TEXT].decode("latin-1")


def _quoted(text: str) -> str:
    """Without what could end the quotes or the line."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
