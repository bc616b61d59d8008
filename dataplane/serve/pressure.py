"""How close the process is to its end: memory and descriptors, measured once per tick.

A proxy that is killed for its memory, or that has no descriptor left to reach a server with, fails
for everybody. So new requests are answered 503 and new connections turned away while there is
still room for what is under way. Knows nothing of requests: others ask it.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dataplane.core.outcome import Outcome, failed, render
from dataplane.process import give_back_memory, resident_bytes
from dataplane.serve.limits import Limits
from dataplane.serve.sockets import reset, stream
from dataplane.telemetry import Counter, Telemetry
from dataplane.wire.sniff import Spoken, sniff

_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")
_RESERVE: Final = 64
"""Descriptors that are not for connections: logs, the controller, the admin port."""
_MOST_ANSWERED: Final = _RESERVE // 2
"""Connections at a time that get an answer before they are closed; the others are reset at once."""
_NO_MEMORY: Final = render(failed(Outcome.OVERLOAD), close=True)
_NO_ROOM: Final = render(failed(Outcome.CROWDED), close=True)
_RELIEF: Final = 0.95
"""Shedding ends below this part of the mark, so that it does not flicker."""
_TRIM_PAUSE: Final = 5.0
"""Seconds between two attempts to give memory back, which take time from all connections."""


class Pressure:
    """Asked at each request (`shedding`) and at each connection (`full`). One per proxy."""

    __slots__ = (
        "_accepted",
        "_connections",
        "_give_back",
        "_leaving",
        "_memory",
        "_open",
        "_resident",
        "_seconds",
        "_trimmed_at",
        "shedding",
    )

    def __init__(
        self,
        limits: Limits,
        resident: Callable[[], int] = resident_bytes,
        give_back: Callable[[], object] = give_back_memory,
    ) -> None:
        self._connections = min(limits.descriptors, most_descriptors() - _RESERVE)
        self._memory = int(min(limits.memory, allowed_bytes()) * limits.memory_share)
        self._resident = resident
        self._give_back = give_back
        self._trimmed_at = -_TRIM_PAUSE
        self._seconds = limits.sniff
        self._leaving = 0
        self._open = 0
        self._accepted = 0
        self.shedding = False
        """Requests are to be answered 503: there is no memory for more."""

    def full(self) -> bool:
        """Count a new connection; whether it is one too many."""
        if self.shedding or self._open + self._accepted >= self._connections:
            return True
        self._accepted += 1
        return False

    def measure(self, now: float = 0.0) -> None:
        """Look at the process. Counting descriptors costs in proportion, so only when it matters."""
        mark = self._memory * (_RELIEF if self.shedding else 1.0)
        if (resident := self._resident()) >= mark and now - self._trimmed_at >= _TRIM_PAUSE:
            # What is free in the allocator would keep it shedding for ever: nothing else gives it back.
            self._trimmed_at = now
            self._give_back()
            resident = self._resident()
        self.shedding = resident >= mark
        if self._accepted or self._open * 2 >= self._connections:
            self._open = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is wanted
            self._accepted = 0

    def guard(
        self, make: Callable[[], asyncio.Protocol], telemetry: Telemetry, *, answer: bool
    ) -> Callable[[], asyncio.Protocol]:
        """`make`, with connections turned away that there is no room for.

        `answer`: tell those that speak HTTP why.
        """
        shed = refused_connections(telemetry)

        def accept() -> asyncio.Protocol:
            if not self.full():
                return make()
            shed.add(("memory" if self.shedding else "connections",))
            if not answer or self._leaving >= _MOST_ANSWERED:
                return _TurnedAway()
            self._leaving += 1
            return _Answered(_NO_MEMORY if self.shedding else _NO_ROOM, self._seconds, self._left)

        return accept

    def _left(self) -> None:
        """One that was to be answered is gone."""
        self._leaving -= 1


def refused_connections(telemetry: Telemetry) -> Counter:
    """By reason: `memory`, `connections`, or `peer` for those of a peer who has enough of them."""
    return telemetry.counter(
        "smi_mesh_connections_refused_total",
        "Connections turned away when they were accepted, because there was no room.",
        ("reason",),
    )


class _TurnedAway(asyncio.Protocol):
    """A connection that ends where it begins."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        reset(stream(transport))


class _Answered(asyncio.Protocol):
    """A connection that is told why it must go, if it asks in HTTP/1.1 before long."""

    __slots__ = ("_answer", "_data", "_left", "_seconds", "_timer", "_transport")

    def __init__(self, answer: bytes, seconds: float, left: Callable[[], None]) -> None:
        self._answer = answer
        self._seconds = seconds
        self._left = left
        self._data = b""
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream(transport)
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._silent)

    def data_received(self, data: bytes) -> None:
        if not self._answer:
            return  # the rest of a request that has its answer
        self._data += data
        spoken = sniff(self._data)
        if spoken is Spoken.HTTP1:
            self._transport.write(self._answer)
            self._transport.write_eof()
            self._answer = b""
        elif spoken is not None:
            reset(self._transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._left()

    def _silent(self) -> None:
        reset(self._transport)


def most_descriptors() -> int:
    """How many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def allowed_bytes(limit: Path = _CGROUP) -> int:
    """What the container may use (cgroup v2); very much where nobody has said."""
    try:
        return int(limit.read_text("ascii"))
    except (OSError, ValueError):  # no cgroup, or "max"
        return 1 << 62
