"""Datagrams that wait until it is known where their flows go: bounded by number and by bytes. Pure.

A flow that is over its own bound loses its oldest. When all together are over theirs, those lose their oldest
that hold more than their share (`core.shares`): a flow that sends little loses nothing to one that floods.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from dataplane.core.shares import cost, share

_Flow = TypeVar("_Flow", bound=Hashable)


class Backlog(Generic[_Flow]):
    """At most `count` datagrams and `each` bytes of one flow, and `room` bytes of all, as `cost` counts them.

    A datagram on its own always fits, so `each` and a quarter of `room` are to be more than the largest.
    """

    __slots__ = ("_count", "_each", "_queues", "_room", "size")

    def __init__(self, count: int, each: int, room: int) -> None:
        self._count = count
        self._each = each
        self._room = room
        self._queues: dict[_Flow, _Queue] = {}
        self.size = 0
        """Bytes that wait."""

    def push(self, flow: _Flow, payload: bytes) -> int:
        """Let a datagram wait; how many gave way to it."""
        queue = self._queues.get(flow)
        if queue is None:
            queue = self._queues[flow] = _Queue()
        before = queue.size
        queue.push(payload)
        dropped = queue.shorten(self._count, self._each, 1)
        self.size += queue.size - before
        if self.size > self._room:
            dropped += self._make_room(queue)
        return dropped

    def take(self, flow: _Flow) -> deque[bytes]:
        """All that waits of a flow, oldest first; it waits no more."""
        queue = self._queues.pop(flow, None)
        if queue is None:
            return deque()
        self.size -= queue.size
        return queue.payloads

    def _make_room(self, newest: _Queue) -> int:
        """For a while: going through all flows costs in proportion to them."""
        queues = self._queues.values()
        each = share([queue.size for queue in queues], self._room * 3 // 4)
        dropped = sum([queue.shorten(self._count, each, int(queue is newest)) for queue in queues])
        self.size = sum([queue.size for queue in queues])
        return dropped


class _Queue:
    __slots__ = ("payloads", "size")

    def __init__(self) -> None:
        self.payloads: deque[bytes] = deque()
        self.size = 0

    def push(self, payload: bytes) -> None:
        self.payloads.append(payload)
        self.size += cost(payload)

    def shorten(self, count: int, size: int, least: int) -> int:
        """Drop the oldest until it holds no more than `count` and `size`, or `least`; how many."""
        dropped = 0
        while (len(self.payloads) > count or self.size > size) and len(self.payloads) > least:
            self.size -= cost(self.payloads.popleft())
            dropped += 1
        return dropped
