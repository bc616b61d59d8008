"""The control loop: a queue of keys, each reconciled by one worker at a time and again after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from localmesh.apiserver.errors import ApiError
from localmesh.tasks import TaskGroup, keep_running

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name); namespace is "" for cluster-scoped objects."""
Reconcile = Callable[[Key], Awaitable[float | None]]
"""Returns after how many seconds to look again, or None."""

RETRY_FIRST_S: Final = 0.02
RETRY_MAX_S: Final = 10.0
WORKERS: Final = 4


class ControlLoop:
    def __init__(self, name: str, reconcile: Reconcile) -> None:
        self.name = name
        self._reconcile = reconcile
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._tasks = TaskGroup(name)

    def add(self, key: Key) -> None:
        """Look at `key` soon; several calls before that are one."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._queue.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at `key` in `seconds` at the latest."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds and not timer.cancelled():
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def start(self, *sources: tuple[str, Callable[[], Awaitable[Any]]]) -> None:
        """Start the workers and the watches that feed them (name, endless coroutine function)."""
        for number in range(WORKERS):
            self._tasks.start(f"worker-{number}", self._work())
        for name, source in sources:
            self._tasks.start(f"watch {name}", keep_running(f"{self.name} watch {name}", source))

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await self._tasks.stop()

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._waiting.discard(key)
            self._working.add(key)
            try:
                await self._once(key)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _once(self, key: Key) -> None:
        try:
            after = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 (whatever happens to one object, the loop goes on)
            count = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(RETRY_FIRST_S * 2 ** min(count, 16), RETRY_MAX_S)
            expected = isinstance(error, ApiError) and error.code in (404, 409)
            level = logging.DEBUG if expected else logging.WARNING
            where = "/".join(part for part in key if part)
            _log.log(
                level,
                "%s: %s: %s (again in %.2f s)",
                self.name,
                where,
                error,
                pause,
                exc_info=not isinstance(error, ApiError),
            )
            self.add_after(key, pause)
            return
        self._failures.pop(key, None)
        if after is not None:
            self.add_after(key, after)


def key_of(obj: dict[str, Any]) -> Key:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


async def feed(
    events: AsyncIterator[tuple[str, dict[str, Any]]], handle: Callable[[str, dict[str, Any]], None]
) -> None:
    """Pass every event of a watch to `handle`."""
    async for kind, obj in events:
        handle(kind, obj)
