"""Who spoke first at a destination the last time, so that the next connection there loses no time.

Only guides how long a proxy listens to one side before it listens to the other as well; what a
connection is taken for is decided by its own bytes each time, so that a wrong memory costs time and
nothing else. Pure; the clock is the caller's.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum, auto


class First(Enum):
    """The side that spoke first."""

    REQUEST = auto()
    """The client, with an HTTP request."""
    SERVER = auto()
    """The server, with a greeting (MySQL, SMTP)."""


class Openings:
    """At most `limit` destinations, each for `seconds` after it was last learned."""

    __slots__ = ("_known", "_limit", "_seconds")

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._known: dict[Hashable, tuple[First, float]] = {}  # in the order of learning

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, key: Hashable, now: float) -> First | None:
        """Who spoke first there; None if nobody did lately."""
        found = self._known.get(key)
        if found is None:
            return None
        first, until = found
        if until < now:
            del self._known[key]
            return None
        return first

    def learn(self, key: Hashable, first: First, now: float) -> None:
        """Somebody spoke first there. The one learned longest ago makes room."""
        self._known.pop(key, None)
        if len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        self._known[key] = first, now + self._seconds

    def forget(self, key: Hashable) -> None:
        """What was known there does not hold. Harmless for one that is not there."""
        self._known.pop(key, None)
