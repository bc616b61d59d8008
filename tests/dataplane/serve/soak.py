"""What this process holds, counted before and after a soak: descriptors, tasks and memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

from dataplane.process import resident_bytes
from tests.dataplane.waiting import until

ROUNDS = 10
A_TURN = 6 << 10
"""Bytes by which memory may grow per turn: less than a connection, a tunnel or an SSL object takes."""


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
    spare: int = 0,
    forget: Callable[[], None] | None = None,
) -> int:
    """Nothing is left of rounds of `turns` turns that was not there after `warm` turns; how many there were.

    `calm`: whether all that a turn began is over. `spare`: connections that may stay open in a pool.
    `forget`: gives up what is kept on purpose, and bounded.
    An allocator keeps room for the most there ever was at a time, which is chance on a busy machine. What is
    left behind grows with every round, so memory must stand still in one of a few.
    """
    done = 0

    async def round_of(count: int) -> int:
        nonlocal done
        for number in range(done, done + count):
            await turn(number)
        done += count
        await until(calm)
        if forget is not None:
            forget()
        return memory()

    had_memory = await round_of(warm)
    had_descriptors, had_tasks = descriptors(), tasks()
    grown: list[int] = []
    while len(grown) < ROUNDS and not any(growth <= turns * A_TURN for growth in grown):
        has_memory = await round_of(turns)
        grown.append(has_memory - had_memory)
        had_memory = has_memory
        with contextlib.suppress(TimeoutError):  # then the numbers say more
            await until(lambda: descriptors() <= had_descriptors + spare and tasks() <= had_tasks + spare)
        assert descriptors() <= had_descriptors + spare
        assert tasks() <= had_tasks + spare
    assert min(grown) <= turns * A_TURN, f"memory grew by {grown} bytes in {turns} turns each"
    return done
