"""Asks the controller whether callers still send to this pod, which is about to end (S33)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from dataplane.control.discovery import Discovery

REPEAT_SECONDS: Final = 1.0
"""A question may be lost with its stream."""
SETTLE_SECONDS: Final = 0.1
"""What was decided before its proxy knew better is on its way for a moment."""

_log = logging.getLogger("dataplane.leaving")


class Leaving:
    """One per sidecar; any number may wait."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._withdrawn = asyncio.Event()
        discovery.on_message("withdrawn", lambda _message: self._withdrawn.set())

    async def withdrawn(self, seconds: float) -> bool:
        """Whether every proxy that the controller knows has stopped calling this pod within `seconds`."""
        self._withdrawn.clear()
        try:
            async with asyncio.timeout(seconds):
                while not self._withdrawn.is_set():
                    self._discovery.say(type="leaving")
                    await self._heard()
                await asyncio.sleep(SETTLE_SECONDS)
        except TimeoutError:
            _log.warning("callers may still send to this pod after %g s", seconds)
            return False
        return True

    async def _heard(self) -> None:
        try:
            async with asyncio.timeout(REPEAT_SECONDS):
                await self._withdrawn.wait()
        except TimeoutError:
            return
