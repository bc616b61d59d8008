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

from dataplane.process import resident_bytes
from dataplane.serve.limits import Limits
from dataplane.serve.sockets import reset, stream
from dataplane.telemetry import Telemetry

_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")
_RESERVE: Final = 64
"""Descriptors that are not for connections: logs, the controller, the admin port."""
_RELIEF: Final = 0.95
"""Shedding ends below this part of the mark, so that it does not flicker."""


class Pressure:
    """Asked at each request (`shedding`) and at each connection (`full`). One per proxy."""

    __slots__ = ("_accepted", "_connections", "_memory", "_open", "_resident", "shedding")

    def __init__(self, limits: Limits, resident: Callable[[], int] = resident_bytes) -> None:
        self._connections = min(limits.descriptors, most_descriptors() - _RESERVE)
        self._memory = int(min(limits.memory, allowed_bytes()) * limits.memory_share)
        self._resident = resident
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

    def measure(self, _now: float = 0.0) -> None:
        """Look at the process. Counting descriptors costs in proportion, so only when it matters."""
        resident = self._resident()
        self.shedding = resident >= self._memory * (_RELIEF if self.shedding else 1.0)
        if self._accepted or self._open * 2 >= self._connections:
            self._open = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is wanted
            self._accepted = 0

    def guard(
        self, make: Callable[[], asyncio.Protocol], telemetry: Telemetry
    ) -> Callable[[], asyncio.Protocol]:
        """`make`, with connections turned away that there is no room for."""
        shed = telemetry.counter(
            "smi_mesh_connections_refused_total",
            "Connections reset when they were accepted, because there was no room.",
            ("reason",),
        )

        def accept() -> asyncio.Protocol:
            if not self.full():
                return make()
            shed.add(("memory" if self.shedding else "connections",))
            return _TurnedAway()

        return accept


class _TurnedAway(asyncio.Protocol):
    """A connection that ends where it begins."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        reset(stream(transport))


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
