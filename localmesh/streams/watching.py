"""Work for a client, given up when the client leaves or is silent for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from localmesh.streams.contract import ClientGoneError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds."""

    idle: float = 4 * 3600.0
    """Without any data either way; the kubelet's streaming-connection-idle-timeout."""
    opening: float = 30.0
    """For a client to open the streams it announced."""
    heartbeat: float = 5.0
    """A ping that often: a client that died while nothing was read from it is noticed by writing to it."""
    farewell: float = 5.0
    """For a client to close after the last word, so that it is not lost with the connection."""


DEFAULTS: Final = Limits()


async def attended(work: Awaitable[T], *watchers: Coroutine[Any, Any, None]) -> T | None:
    """The result of `work`; None (and `work` cancelled) when a watcher raised ClientGoneError first."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watcher) for watcher in watchers]
            result = await work
            for task in tasks:
                task.cancel()
            return result
    except* (ClientGoneError, ConnectionError):
        pass
    return None


async def heartbeat(limits: Limits, traffic: Callable[[], int], ping: Callable[[], Awaitable[None]]) -> None:
    """Ping the client, and raise ClientGoneError when `traffic` has not grown for the idle time."""
    clock = asyncio.get_running_loop().time
    seen, since = traffic(), clock()
    while True:
        await asyncio.sleep(min(limits.heartbeat, limits.idle))
        if traffic() != seen:
            seen, since = traffic(), clock()
        elif clock() - since >= limits.idle:
            raise ClientGoneError(f"nothing was sent for {limits.idle:g} s")
        await ping()
