"""All connections that are being served: their deadlines, and their end when the proxy drains.

One coarse ticker looks at every connection's `deadline` instead of one timer per request, which
would cost more than the request's own arithmetic.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

NEVER = math.inf


class Served(Protocol):
    """A connection, or a pair of them."""

    deadline: float
    """Loop time after which `expire` is called; NEVER for none."""

    def expire(self) -> None:
        """The deadline has passed."""

    def drain(self) -> None:
        """Finish what is under way, begin nothing new, then close."""

    def abort(self) -> None:
        """Close at once."""


class Registry:
    """The set of served connections. Begins to tick with the first `add`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: float) -> None:
        self.draining = False
        self.now = loop.time()
        """Loop time of the last tick: exact enough for idle times."""
        self._loop = loop
        self._tick = tick
        self._served: set[Served] = set()
        self._sweeps: list[Callable[[float], None]] = []
        self._timer: asyncio.TimerHandle | None = loop.call_later(tick, self._check)
        self._empty: asyncio.Event = asyncio.Event()

    def __len__(self) -> int:
        return len(self._served)

    def add(self, served: Served) -> None:
        self._served.add(served)

    def forget(self, served: Served) -> None:
        """Harmless for one that is not there."""
        self._served.discard(served)
        if self.draining and not self._served:
            self._empty.set()

    def on_tick(self, sweep: Callable[[float], None]) -> None:
        """Call `sweep(loop time)` at every tick."""
        self._sweeps.append(sweep)

    async def drain(self, seconds: float) -> bool:
        """Let every connection finish, at most for `seconds`, then close what is left.

        Returns whether all of them finished in time.
        """
        self.draining = True
        for served in tuple(self._served):
            served.drain()
        try:
            if self._served:
                await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            for served in tuple(self._served):
                served.abort()
            self.stop()
        return True

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        now = self.now = self._loop.time()
        self._timer = self._loop.call_later(self._tick, self._check)
        for served in [served for served in self._served if served.deadline < now]:
            served.expire()
        for sweep in self._sweeps:
            sweep(now)
