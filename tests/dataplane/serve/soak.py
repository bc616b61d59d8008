"""What this process holds, counted before and after a soak: descriptors, tasks and memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

from dataplane.process import resident_bytes
from tests.dataplane.waiting import until


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def tasks() -> int:
    return len(asyncio.all_tasks())


def memory() -> int:
    """Bytes resident, without what only waits for the collector."""
    gc.collect()
    return resident_bytes()


async def soak(
    turn: Callable[[int], Awaitable[None]],
    calm: Callable[[], object],
    *,
    warm: int,
    turns: int,
    grows: int,
    spare: int = 0,
) -> None:
    """Nothing is left of `turns` turns, numbered from 0, that was not there after `warm` of them.

    `calm`: whether all that a turn began is over. `grows`: bytes that memory may grow by, for what an
    allocator does not give back; to be much less than what `turns` turns would leave if each left something.
    `spare`: connections that may stay open in a pool.
    """
    for number in range(warm):
        await turn(number)
    await until(calm)
    had_descriptors, had_tasks, had_memory = descriptors(), tasks(), memory()
    for number in range(warm, warm + turns):
        await turn(number)
    await until(calm)
    with contextlib.suppress(TimeoutError):  # then the numbers say more
        await until(lambda: descriptors() <= had_descriptors + spare and tasks() <= had_tasks + spare)
    assert descriptors() <= had_descriptors + spare
    assert tasks() <= had_tasks + spare
    assert memory() <= had_memory + grows
