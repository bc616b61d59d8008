"""Background tasks that cannot get lost: named, referenced, and loud when they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)


class TaskGroup:
    """Tasks that live until they end or the group is stopped. A failure is logged with its name.

    Unlike asyncio.TaskGroup one failing task does not cancel its siblings: a bad pod must not stop the node.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=f"{self._name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)

    async def stop_one(self, name: str) -> None:
        """Cancel the tasks of that name and wait until they have ended."""
        tasks = [task for task in self._tasks if task.get_name() == f"{self._name}/{name}"]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        """Cancel everything and wait until it has ended."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def keep_running(name: str, work: Callable[[], Awaitable[Any]], pause_s: float = 0.5) -> None:
    """Run `work` again when it fails or returns: a watch that broke is taken up anew."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 (any failure of a control loop is logged and the loop goes on, by design)
            _log.exception("%s failed; it starts again in %.1f s", name, pause_s)
        await asyncio.sleep(pause_s)
