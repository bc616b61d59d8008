"""How long a request that no endpoint has seen may wait for another endpoint. (S33)

What a proxy knows of a Service's pods is always a little behind: a pod that ends may be gone before its
successor is known. A request that certainly reached nobody then loses nothing by waiting a moment. A
Service that is really down must not make its callers wait each time, though, so the time counts from
the first failure on, for all of them together.
"""

from __future__ import annotations

from typing import Final

_MAX_OUTAGES: Final = 4096
_ENDED: Final = 10.0
"""Times the patience without a failure after which the next one begins another outage."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.4


def pause(turn: int) -> float:
    """Seconds before who refused is asked again, for the `turn`-th time (from 0)."""
    return min(_FIRST_PAUSE * 2.0 ** min(turn, 8), _LONGEST_PAUSE)


class Patience:
    """`seconds`: how long an outage is waited for."""

    __slots__ = ("_outages", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._outages: dict[str, tuple[object, float, float]] = {}  # key: (endpoints, since, last failure)

    def until(self, key: str, endpoints: object, now: float) -> float:
        """Note a failure at the cluster `key`, all of whose `endpoints` were tried; when waiting ends.

        Other endpoints than the last time are the beginning of another outage.
        """
        known = self._outages.get(key)
        since = now
        if known is not None and known[0] is endpoints and now - known[2] <= _ENDED * self._seconds:
            since = known[1]
        elif known is None and len(self._outages) >= _MAX_OUTAGES:
            self._outages.clear()
        self._outages[key] = (endpoints, since, now)
        return since + self._seconds
