"""Who must give way when a queue that many flows share is full.

A flow that sends no more than its share loses nothing, however much another sends. What a flow
loses is its oldest: to UDP a late datagram is worth less than the next one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

OVERHEAD: Final = 64
"""Bytes that what waits takes beside its own: empty datagrams are not free."""


def cost(waiting: bytes) -> int:
    """Bytes of memory that a datagram, or a frame with one, takes while it waits."""
    return len(waiting) + OVERHEAD


def share(sizes: Iterable[int], room: int) -> int:
    """The most that each may keep so that all together keep at most `room` (max-min fairness)."""
    left = sorted(sizes)
    for place, size in enumerate(left):
        each = room // (len(left) - place)
        if size > each:
            return each
        room -= size
    return left[-1] if left else room


def keep(queue: Sequence[tuple[int, bytes]], room: int) -> list[tuple[int, bytes]]:
    """What stays of a queue of (flow, frame), oldest first: a `cost` of `room`, and the newest frame."""
    if not queue:
        return []
    sizes: dict[int, int] = {}
    for flow, frame in queue:
        sizes[flow] = sizes.get(flow, 0) + cost(frame)
    return _newest(queue, sizes, share(sizes.values(), room))


def _newest(
    queue: Sequence[tuple[int, bytes]], sizes: Mapping[int, int], most: int
) -> list[tuple[int, bytes]]:
    """The newest frames of each flow, as far as `most` goes."""
    left = {flow: min(size, most) for flow, size in sizes.items()}
    kept = [queue[-1]]
    left[queue[-1][0]] -= cost(queue[-1][1])
    for flow, frame in reversed(queue[:-1]):
        room = left[flow] - cost(frame)
        left[flow] = room if room >= 0 else -1  # behind one that is lost, all older ones are
        if room >= 0:
            kept.append((flow, frame))
    kept.reverse()
    return kept
