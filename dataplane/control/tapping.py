"""Taps over the config stream: the controller asks, this proxy answers with what it saw.

The stream is mTLS with the controller, so nobody else can ask; when it ends, every tap ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from dataplane.control.discovery import Discovery
from dataplane.tap import Tap, read_filter

FLUSH_SECONDS: Final = 0.2
_MAX_NAME: Final = 100


class Tapping:
    """Wires a Tap to a Discovery; there is nothing to run."""

    def __init__(self, tap: Tap, discovery: Discovery, unable: str = "") -> None:
        """`unable`: why this process sees no requests, if so; askers are told."""
        self._tap = tap
        self._discovery = discovery
        self._unable = unable
        self._flushing = False
        discovery.on_message("tap", self._start)
        discovery.on_message("untap", lambda message: tap.stop(_name(message)))
        discovery.on_end(tap.clear)

    def _start(self, message: Mapping[str, Any]) -> None:
        name, seconds, rate = _name(message), message.get("seconds"), message.get("rate")
        if not name or not isinstance(seconds, int | float) or not isinstance(rate, int):
            return  # of a controller that speaks another dialect
        if self._unable:
            self._discovery.say(type="tapped", id=name, requests=[], dropped=0, error=self._unable)
        elif not self._tap.start(name, read_filter(message), float(seconds), rate):
            self._discovery.say(type="tapped", id=name, requests=[], dropped=0, error="too many taps")
        elif not self._flushing:
            self._flushing = True
            self._later()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        for name, requests, dropped in self._tap.collect():
            self._discovery.say(type="tapped", id=name, requests=requests, dropped=dropped)
        self._flushing = self._tap.active
        if self._flushing:
            self._later()


def _name(message: Mapping[str, Any]) -> str:
    name = message.get("id")
    return name if isinstance(name, str) and len(name) <= _MAX_NAME else ""
