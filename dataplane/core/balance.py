"""Least-request balancing over two random choices.

Of two endpoints drawn at random the one with fewer requests under way is taken: nearly as even as
looking at all of them, at constant cost, and no herd runs to the same idle endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Load:
    """How busy one endpoint is, as this proxy sees it. Counted by whoever sends there."""

    __slots__ = ("__weakref__", "active", "suspect")

    def __init__(self) -> None:
        self.active = 0
        """Requests or connections under way."""
        self.suspect = False
        """The last attempt to connect failed: taken only when there is nothing better."""


class Ceiling:
    """At most `limit` under way in all, as `count` finds them.

    Counting costs in proportion to what there is, so it is done again only when as many have begun
    as there was room for the last time: never too late, and far from the limit hardly ever.
    """

    __slots__ = ("_count", "_limit", "_room")

    def __init__(self, limit: int, count: Callable[[], int]) -> None:
        self._limit = limit
        self._count = count
        self._room = 0

    def full(self) -> bool:
        """Whether one more is too many. If it is not, it counts as begun."""
        self._room -= 1
        if self._room >= 0:
            return False
        self._room = self._limit - self._count() - 1
        return self._room < 0


class Loaded(Protocol):
    """Anything that leads to one endpoint."""

    @property
    def load(self) -> Load: ...


_Choice = TypeVar("_Choice", bound=Loaded)


def pick(choices: Sequence[_Choice], draw: Callable[[], float]) -> _Choice | None:
    """One of `choices`; None if there are none. `draw` gives independent numbers in [0, 1)."""
    count = len(choices)
    if count < 2:
        return choices[0] if count else None
    first = int(draw() * count)
    second = int(draw() * (count - 1))
    if second >= first:
        second += 1
    one, other = choices[first], choices[second]
    best = one if one.load.active <= other.load.active else other
    if best.load.suspect:
        sound = [choice for choice in choices if not choice.load.suspect]
        if sound and len(sound) < count:
            return pick(sound, draw)
    return best
