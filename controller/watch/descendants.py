"""Every task that was started from within a block of code, however deep, so that all can be ended.

kopf leaves its watchers running when one of them fails, and trusts `kopf.run_tasks` to cancel every
task of the loop. In a loop that others use too, its own tasks must be told apart: tasks inherit the
context of their creator, and a task factory notes which context that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

_ancestor: ContextVar[Descendants | None] = ContextVar("ancestor", default=None)


class Descendants:
    """Gathers tasks in `gathering`, and ends them with `end`."""

    def __init__(self) -> None:
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Gather what the current task and its descendants start. Needs `install` on this loop."""
        token = _ancestor.set(self)
        try:
            yield
        finally:
            _ancestor.reset(token)

    @property
    def alive(self) -> set[asyncio.Task[Any]]:
        return {task for task in self._tasks if not task.done()}

    async def end(
        self,
        roots: Collection[asyncio.Task[Any]],
        seconds: float,
        spare: Callable[[asyncio.Task[Any]], bool] = lambda _: False,
    ) -> int:
        """Cancel `roots`, which may end the rest in good order, then what is left; each within `seconds`.

        Tasks that `spare` names are not cancelled: others end them. Returns how many still run.
        """
        await _cancel(roots, seconds)
        await _cancel([task for task in self.alive if not spare(task)], seconds)
        return len(self.alive)

    @staticmethod
    def install(loop: asyncio.AbstractEventLoop) -> None:
        """Have `loop` note descendants. Once per loop; a second time does no harm."""
        loop.set_task_factory(_make_task)

    def _note(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)


async def _cancel(tasks: Collection[asyncio.Task[Any]], seconds: float) -> None:
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=seconds)


def _make_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **more: Any,
) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, **more)
    ancestor = _ancestor.get()
    if ancestor is not None:
        ancestor._note(task)
    return task
