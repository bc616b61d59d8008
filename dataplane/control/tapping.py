"""Taps over the config stream: the controller asks, this proxy answers with what it saw.

The stream is mTLS with the controller, so nobody else can ask; when it ends, every tap ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dataplane.control.discovery import Discovery
from dataplane.tap import Tap, TapFilter, read_filter

FLUSH_SECONDS: Final = 0.2
TOO_MANY: Final = "too many taps"
_MAX_NAME: Final = 100

Say = Callable[..., None]
"""Takes the fields of one message, `type` among them."""


class Taps(Protocol):
    """Who does what orders of taps say: this process, or its workers."""

    def start(self, message: Mapping[str, Any]) -> None: ...

    def stop(self, message: Mapping[str, Any]) -> None: ...

    def clear(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """A tap as it is asked for."""

    name: str
    wanted: TapFilter
    seconds: float
    rate: int


def read_order(message: Mapping[str, Any]) -> Order | None:
    """None for one of a controller that speaks another dialect."""
    name, seconds, rate = read_name(message), message.get("seconds"), message.get("rate")
    if not name or not isinstance(seconds, int | float) or not isinstance(rate, int):
        return None
    return Order(name, read_filter(message), float(seconds), rate)


def read_name(message: Mapping[str, Any]) -> str:
    """The tap's name, "" for none that can be."""
    name = message.get("id")
    return name if isinstance(name, str) and len(name) <= _MAX_NAME else ""


def follow(discovery: Discovery, taps: Taps) -> None:
    """Have `taps` do what comes down the config stream."""
    discovery.on_message("tap", taps.start)
    discovery.on_message("untap", taps.stop)
    discovery.on_end(taps.clear)


class Tapping:
    """Taps the exchanges of this process and says what was seen; there is nothing to run."""

    def __init__(self, tap: Tap, say: Say) -> None:
        self._tap = tap
        self._say = say
        self._flushing = False

    def start(self, message: Mapping[str, Any]) -> None:
        """Begin a tap."""
        order = read_order(message)
        if order is None:
            return
        if not self._tap.start(order.name, order.wanted, order.seconds, order.rate):
            self._say(type="tapped", id=order.name, requests=[], dropped=0, error=TOO_MANY)
        elif not self._flushing:
            self._flushing = True
            self._later()

    def stop(self, message: Mapping[str, Any]) -> None:
        """End one."""
        self._tap.stop(read_name(message))

    def clear(self) -> None:
        """End all."""
        self._tap.clear()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        for name, requests, dropped in self._tap.collect():
            self._say(type="tapped", id=name, requests=requests, dropped=dropped)
        self._flushing = self._tap.watched
        if self._flushing:
            self._later()
