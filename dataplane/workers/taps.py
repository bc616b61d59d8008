"""Taps of a sidecar with several workers: orders go to each of them, what they see comes together here.

To the controller it is one sidecar still: one answer to an order that cannot be met, and one rate for all
workers together. A worker that takes the place of another one is told the taps there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.control.tapping import TOO_MANY, Say, read_name, read_order
from dataplane.tap import MAX_RATE, MAX_SECONDS, MAX_TAPS

Tell = Callable[[str, Mapping[str, Any]], None]
"""Takes the type and the fields of a message to every worker."""


@dataclass(slots=True)
class _Relayed:
    order: Mapping[str, Any]
    """As it came, without its type."""
    rate: int
    until: float
    second: int = 0
    in_second: int = 0

    def room(self, now: float) -> int:
        """Requests that may still be shown this second."""
        if self.second != int(now):
            self.second, self.in_second = int(now), 0
        return max(0, self.rate - self.in_second)


class Relay:
    """`dataplane.control.tapping.Taps` for workers. `clock` is Unix time."""

    def __init__(self, tell: Tell, say: Say, clock: Callable[[], float]) -> None:
        self._tell = tell
        self._say = say
        self._clock = clock
        self._taps: dict[str, _Relayed] = {}

    def start(self, message: Mapping[str, Any]) -> None:
        """Have every worker begin a tap."""
        order = read_order(message)
        if order is None:
            return
        self._forget()
        if order.name not in self._taps and len(self._taps) >= MAX_TAPS:
            self._say(type="tapped", id=order.name, requests=[], dropped=0, error=TOO_MANY)
            return
        fields = {name: message[name] for name in ("id", "filter", "seconds", "rate") if name in message}
        until = self._clock() + min(order.seconds, MAX_SECONDS)
        self._taps[order.name] = _Relayed(fields, max(1, min(order.rate, MAX_RATE)), until)
        self._tell("tap", fields)

    def stop(self, message: Mapping[str, Any]) -> None:
        """Have every worker end one."""
        name = read_name(message)
        if self._taps.pop(name, None) is not None:
            self._tell("untap", {"id": name})

    def clear(self) -> None:
        """Have every worker end all."""
        for name in list(self._taps):
            self.stop({"id": name})

    def running(self) -> Iterator[Mapping[str, Any]]:
        """The orders that a new worker has to be told, with the time that is left."""
        self._forget()
        now = self._clock()
        for tap in self._taps.values():
            yield {**tap.order, "seconds": tap.until - now}

    def seen(self, message: Mapping[str, Any]) -> None:
        """What one worker tells of one tap."""
        tap = self._taps.get(read_name(message))
        if tap is None:
            return  # ended meanwhile
        requests, dropped = message["requests"], message["dropped"]
        room = tap.room(self._clock())
        tap.in_second += len(requests)
        shown, more = requests[:room], len(requests[room:])
        self._say(type="tapped", id=read_name(message), requests=shown, dropped=dropped + more)

    def _forget(self) -> None:
        now = self._clock()
        for name in [name for name, tap in self._taps.items() if tap.until <= now]:
            del self._taps[name]
