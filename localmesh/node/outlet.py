"""Output of a container on its way to the log and to whoever is attached. Knows nothing of pods.

Attached clients are slow sometimes: output is then left with the container, as a runtime does. A client that
takes nothing at all for a while is let go, so that a forgotten terminal does not stop a workload.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, cast

HIGH: Final = 256 * 1024
LOW: Final = 64 * 1024
"""Bytes waiting for a client at which the container's output is held, and taken again."""
STALL_S: Final = 30.0

Stream = Literal["stdout", "stderr"]


class Subscription:
    """One client's share. `read` until it returns None; `close` in any case."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._chunks: deque[tuple[Stream, bytes]] = deque()
        self._over = False
        self._news = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self.size = 0
        self.stalled = False
        """It was let go because it took nothing."""

    async def read(self) -> tuple[Stream, bytes] | None:
        """The next piece of output, None when there will be no more."""
        while not self._chunks:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        stream, data = self._chunks.popleft()
        self.size -= len(data)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._outlet.balance()
        return stream, data

    def put(self, stream: Stream, data: bytes) -> None:
        if not self._over:
            self._chunks.append((stream, data))
            self.size += len(data)
            self._news.set()

    def hurry(self, stall_s: float) -> None:
        """The container waits for this client now."""
        if self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(stall_s, self._let_go)

    def _let_go(self) -> None:
        self.stalled = True
        self.close()

    def end(self) -> None:
        """Nothing more will come; what is here can still be read."""
        self._over = True
        self._news.set()

    def close(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._chunks.clear()
        self.size = 0
        self.end()
        self._outlet.drop(self)


class Outlet:
    """Passes output on. Made for one run of a container."""

    def __init__(self, log: Callable[[str, bytes], None], stall_s: float = STALL_S) -> None:
        self._log = log
        self._stall_s = stall_s
        self._hold: Callable[[bool], None] = lambda _held: None
        self._held = False
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def connect(self, hold: Callable[[bool], None]) -> None:
        """`hold(True)` leaves output with the process, `hold(False)` takes it again."""
        self._hold = hold

    def feed(self, stream: str, data: bytes) -> None:
        self._log(stream, data)
        for one in self._subscriptions:
            one.put(cast("Stream", stream), data)
        self.balance()

    def subscribe(self) -> Subscription:
        made = Subscription(self)
        if self._closed:
            made.end()
        else:
            self._subscriptions.add(made)
        return made

    def drop(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        self.balance()

    def balance(self) -> None:
        """Hold the output when somebody is far behind, take it again when nobody is."""
        most = max((one.size for one in self._subscriptions), default=0)
        if not self._held and most >= HIGH:
            self._held = True
            self._hold(True)
        elif self._held and most < LOW:
            self._held = False
            self._hold(False)
        if self._held:
            for one in self._subscriptions:
                if one.size >= LOW:
                    one.hurry(self._stall_s)

    def close(self) -> None:
        """The run is over."""
        self._closed = True
        for one in self._subscriptions:
            one.end()
        self._subscriptions.clear()
