"""Named, referenced tasks: the only place that starts one.

asyncio keeps weak references to tasks and reports a failure only when the task is collected. Here
a task is held until it ends, and a failure is logged with the task's name at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_log = logging.getLogger("dataplane.tasks")


class Tasks:
    """A group of running tasks with one owner, who ends them with `cancel`."""

    __slots__ = ("_on_failure", "_running")

    def __init__(self, on_failure: Callable[[str, BaseException], None] | None = None) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def start(self, name: str, coroutine: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Run `coroutine` as a task; its failure is logged and told to `on_failure`."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def __len__(self) -> int:
        return len(self._running)

    async def cancel(self) -> None:
        """Cancel every task and wait until all have ended."""
        pending = list(self._running)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            _log.error("task %s failed", task.get_name(), exc_info=failure)
            if self._on_failure is not None:
                self._on_failure(task.get_name(), failure)
