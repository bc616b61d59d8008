"""Delays between attempts: exponential, capped, with full jitter, so that a fleet spreads out."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """`next()` is a random delay between `first` and first * 2**n, n growing with each failure.

    `chance` returns a number in [0, 1).
    """

    __slots__ = ("_chance", "_failures", "_first", "_last")

    def __init__(self, first: float, last: float, chance: Callable[[], float]) -> None:
        self._first = first
        self._last = last
        self._chance = chance
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        self._failures += 1
        ceiling = min(self._last, self._first * 2.0 ** min(self._failures, 30))
        return self._first + (ceiling - self._first) * self._chance()

    def reset(self) -> None:
        """The last attempt was a success."""
        self._failures = 0
