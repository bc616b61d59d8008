"""The flow table: bounded, with idle expiry. Pure; the clock is the caller's.

UDP has no end of a conversation, so a flow is what has one pair of addresses and was used not too
long ago. When the table is full a new flow is refused rather than an old one broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Used(Protocol):
    """A flow: it knows when a datagram of it went either way."""

    used: float


_Key = TypeVar("_Key")
_Flow = TypeVar("_Flow", bound=Used)


class FlowTable(Generic[_Key, _Flow]):
    """Flows by key, at most `limit`; idle after `idle` seconds."""

    __slots__ = ("_flows", "idle", "limit")

    def __init__(self, limit: int, idle: float) -> None:
        self.limit = limit
        self.idle = idle
        self._flows: dict[_Key, _Flow] = {}

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[_Flow]:
        return iter(tuple(self._flows.values()))

    @property
    def full(self) -> bool:
        return len(self._flows) >= self.limit

    def get(self, key: _Key) -> _Flow | None:
        return self._flows.get(key)

    def add(self, key: _Key, flow: _Flow) -> None:
        """Hold a new flow. Ask `full` before: IndexError if it is."""
        if self.full:
            raise IndexError(f"{self.limit} flows are held already")
        self._flows[key] = flow

    def remove(self, key: _Key) -> None:
        """Harmless for one that is not there."""
        self._flows.pop(key, None)

    def expire(self, now: float) -> list[_Flow]:
        """Take out the flows unused for `idle` seconds, and return them."""
        before = now - self.idle
        gone = [key for key, flow in self._flows.items() if flow.used <= before]
        return [self._flows.pop(key) for key in gone]
