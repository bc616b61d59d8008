"""Waiting for a condition to be observed, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

DEADLINE = 20.0


async def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Return as soon as `condition()` is true; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is observed has no event to wait for
            await asyncio.sleep(0.002)
