"""Does a rate limit let one more through? (R15) Pure; the clock is the caller's.

A bucket holds `burst` tokens and gets one back every `each`; whatever passes takes one. All that need
be kept of it is the moment from which it is full again, so a bucket that is full is as good as none.
Times are whole nanoseconds of one clock: nothing is rounded to the good of who asks often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from smi.policy.match import CompiledMatch, Request, compile_matches
from smi.policy.snapshot import Limited, RateLimit

SECOND: Final = 1_000_000_000
MAX_CLIENTS: Final = 4096
"""Callers with a bucket of their own in one limit; more share one."""


def wait(full_at: int, now: int, each: int, burst: int) -> int:
    """Until the bucket holds a token; 0 if it does now."""
    return max(0, full_at - now - (burst - 1) * each)


def taken(full_at: int, now: int, each: int) -> int:
    """From when the bucket is full again, once one more token is taken."""
    return max(full_at, now) + each


def parts(count: int, processes: int) -> int:
    """What one of several processes may have of `count`: its share, but at least one."""
    return max(1, count // processes)


@dataclass(frozen=True, slots=True)
class Held:
    """A request or connection must wait."""

    limit: RateLimit
    nanoseconds: int
    """Until it would pass, if nobody else came."""

    @property
    def seconds(self) -> int:
        """The same in whole seconds, at least one: the value of `retry-after` (RFC 9110 §10.2.3)."""
        return max(1, -(-self.nanoseconds // SECOND))


class Bucket:
    """One RateLimit in one process, of `processes` that share it; at most `most` callers are told apart."""

    __slots__ = ("_burst", "_each", "_full_at", "_matches", "_most", "_purge_at", "limit")

    def __init__(self, limit: RateLimit, processes: int, most: int = MAX_CLIENTS) -> None:
        self.limit = limit
        self._most = most
        self._each = -(-limit.seconds * SECOND * processes // limit.count)
        self._burst = parts(limit.burst, processes)
        self._full_at: dict[str, int] = {}
        self._purge_at = 0
        self._matches: tuple[CompiledMatch, ...] | None = None
        if limit.matches is not None:
            self._matches = tuple(compile_matches(limit.matches, []))

    def __len__(self) -> int:
        """Callers of whom something is kept."""
        return len(self._full_at)

    def concerns(self, port: int, caller: str, request: Request | None) -> bool:
        """Whether this limit is about such a call."""
        limit = self.limit
        if port not in limit.ports or (limit.source is not None and limit.source != caller):
            return False
        matches = self._matches
        if matches is None or request is None:
            return True
        return any(match.matches(request) for match in matches)

    def wait(self, caller: str, now: int) -> int:
        """Nanoseconds until one more passes; 0 if it may now."""
        full_at = self._full_at.get(self._whose(caller, now))
        return 0 if full_at is None else wait(full_at, now, self._each, self._burst)

    def take(self, caller: str, now: int) -> None:
        """One passes."""
        whose = self._whose(caller, now)
        self._full_at[whose] = taken(self._full_at.get(whose, now), now, self._each)

    def _whose(self, caller: str, now: int) -> str:
        """The bucket of a caller; that of callers without identity where there is no room for one more."""
        if not self.limit.per_client:
            return ""
        if caller in self._full_at or len(self._full_at) < self._most:
            return caller
        if now >= self._purge_at:
            self._purge_at = now + SECOND
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        return caller if len(self._full_at) < self._most else ""


class Rates:
    """All rate limits of a pod. What passes takes a token of each that concerns it, or of none."""

    __slots__ = ("_connections", "_requests", "limits")

    def __init__(self, limits: Iterable[RateLimit], processes: int = 1, before: Rates | None = None) -> None:
        """`before`: the limits that held until now; buckets of those that still hold go on."""
        self.limits = tuple(limits)
        old = {} if before is None else {bucket.limit: bucket for bucket in before.buckets()}
        made = [old.get(limit) or Bucket(limit, processes) for limit in self.limits]
        self._requests = tuple(bucket for bucket in made if bucket.limit.what is Limited.REQUESTS)
        self._connections = tuple(bucket for bucket in made if bucket.limit.what is Limited.CONNECTIONS)

    def buckets(self) -> tuple[Bucket, ...]:
        return self._requests + self._connections

    def request(self, port: int, caller: str, request: Request, now: int) -> Held | None:
        """Let one admitted request pass (None), or say what holds it."""
        return _pass(self._requests, port, caller, request, now)

    def connection(self, port: int, caller: str, now: int) -> Held | None:
        """The same for one admitted opaque connection."""
        return _pass(self._connections, port, caller, None, now)

    def concerning(self, port: int, caller: str, request: Request | None) -> tuple[RateLimit, ...]:
        """The limits that a call would be held to; nothing is taken."""
        buckets = self._connections if request is None else self._requests
        return tuple(bucket.limit for bucket in buckets if bucket.concerns(port, caller, request))


def _pass(
    buckets: tuple[Bucket, ...], port: int, caller: str, request: Request | None, now: int
) -> Held | None:
    concerned: list[Bucket] = []
    held: Held | None = None
    for bucket in buckets:
        if bucket.concerns(port, caller, request):
            concerned.append(bucket)
            nanoseconds = bucket.wait(caller, now)
            if nanoseconds and (held is None or nanoseconds > held.nanoseconds):
                held = Held(bucket.limit, nanoseconds)
    if held is None:
        for bucket in concerned:
            bucket.take(caller, now)
    return held
