"""How a request is decided, whatever version of HTTP it came in: the words both servers share.

A `Gate` decides for the requests of one connection: a `Way` to a server, a `Refusal`, or a
`HandOver` of the connection itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from dataplane.core.balance import Load
from dataplane.core.breaker import Lease
from dataplane.core.outbound import Plan
from dataplane.core.outcome import Reply
from dataplane.core.request_ids import RequestIds
from dataplane.serve.limits import Limits
from dataplane.serve.pool import Lane
from dataplane.serve.pressure import Pressure
from dataplane.serve.registry import Registry
from dataplane.tap import Tap
from dataplane.tasks import Tasks
from dataplane.telemetry import HttpSeries
from dataplane.tracing.tracer import Tracer
from dataplane.wire.http1 import RequestHead

CLIENT_GONE: Final = "client-gone"
"""The client left, or took nothing more, before the end of the answer."""
TRUNCATED: Final = "truncated"
"""The server broke off its answer."""
SHUTDOWN: Final = "shutdown"
"""The proxy ended, after it had waited as long as it may."""
_NOTHING: Final[frozenset[bytes]] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """What every connection of a proxy shares."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    registry: Registry
    tasks: Tasks
    pressure: Pressure
    ids: RequestIds = field(default_factory=lambda: RequestIds(os.urandom(16)))
    tap: Tap = field(default_factory=Tap)
    tracer: Tracer | None = None
    """None: trace context passes untouched, and there are no spans."""


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A request's way to a server."""

    lane: Lane
    series: HttpSeries
    load: Load
    plan: Plan | None = None
    """Outbound only: to find another endpoint of the same backend."""
    extra: bytes = b""
    """Field lines to add to the request."""
    drop: frozenset[bytes] = _NOTHING
    """Fields to take off the request."""
    drop_response: frozenset[bytes] = _NOTHING
    """Fields to take off the response."""
    to_peer: bool = False
    """The server is a peer proxy: its REASON_HEADER can be believed."""
    guard: Lease | None = None
    """The same as `load`, where the server's cluster has a circuit breaker: to be told how it went."""

    @property
    def host(self) -> str:
        """Address of the server; empty for the app of this pod."""
        return "" if self.plan is None else self.plan.endpoint.ip

    @property
    def port(self) -> int:
        return 0 if self.plan is None else self.plan.endpoint.port


def retried(way: Way) -> Way:
    """The same way for a request that is tried again: a circuit breaker counts it as a retry."""
    if way.guard is None:
        return way
    lease = way.guard.again()
    return Way(
        way.lane,
        way.series,
        lease,
        way.plan,
        way.extra,
        way.drop,
        way.drop_response,
        way.to_peer,
        lease,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Refusal:
    """An answer of our own, and what to count it under."""

    reply: Reply
    series: HttpSeries


@dataclass(frozen=True, slots=True, eq=False)
class HandOver:
    """CONNECT: answer `reply`, then give the connection, with bytes read ahead, to `take`."""

    reply: bytes
    take: Callable[[asyncio.Transport, bytes], None]
    series: HttpSeries


Decision = Way | Refusal | HandOver


class Gate(Protocol):
    """Decides for the requests of one connection."""

    def decide(self, head: RequestHead) -> Decision | Coroutine[Any, Any, Decision]:
        """Decide, and bring `head` into the form it is to be sent on in. Raises BadMessage."""

    def again(self, way: Way, tried: Sequence[Way]) -> Way | None:
        """Another way for a request that `tried` could not deliver; None if there is none."""

    def hold(
        self, head: RequestHead, way: Way, tried: Sequence[Way], turn: int
    ) -> Coroutine[Any, Any, Way | None] | None:
        """Wait for a way to try next, for a request that reached none of `tried` (S33).

        `turn`: times it waited before. It gives None when there is none to be had; None at once: do not wait.
        """

    def refuse(self, reply: Reply) -> Refusal:
        """An answer that no way led to."""
