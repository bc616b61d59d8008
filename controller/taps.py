"""Taps: one asker's view of live requests on several proxies, with a bound on what waits to be read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

MAX_WAITING: Final = 1000
"""Requests that wait for the reader; the oldest go first."""

MAX_TAPS: Final = 8
"""At the same time, of all askers together."""

Json = Mapping[str, Any]


class TooManyTapsError(Exception):
    """There are as many taps as there may be; the message says when to try again."""


class TapReader:
    """What came in for one asker. One reader, any number of writers in the same loop."""

    def __init__(self) -> None:
        self.dropped = 0
        """Requests that were seen but did not fit, here or at a proxy."""
        self.notes: list[str] = []
        """What proxies said instead of requests."""
        self._waiting: deque[Json] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()

    def put(self, pod: str, requests: Iterable[Json], dropped: int, note: str = "") -> None:
        """What the proxy of `pod` (`namespace/name`) saw."""
        self.dropped += dropped
        if note:
            self.notes.append(f"{pod}: {note}")
        for request in requests:
            if len(self._waiting) == MAX_WAITING:
                self.dropped += 1
            self._waiting.append({"pod": pod, **request})
        self._arrived.set()

    async def take(self, seconds: float) -> list[Json]:
        """Everything that waits; an empty list if nothing comes within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        found = list(self._waiting)
        self._waiting.clear()
        return found


class Tapper(Protocol):
    """Whoever can ask proxies to show their requests."""

    def tap(
        self, pods: Iterable[str], wanted: Mapping[str, str], seconds: float, rate: int
    ) -> AbstractContextManager[TapReader]:
        """Open for as long as the context; pods whose proxy is not connected are noted in the reader.

        Raises TooManyTapsError.
        """
