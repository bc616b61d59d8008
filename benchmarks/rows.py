"""One line of the result: a figure of ours beside a peer's or a fixed bound, and whether the goal is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """`at_least` × the peer's value, or with `at_most` no more than that times it."""

    bound: float
    at_least: bool = True

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.at_least else ratio <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """`ours` None: not yet. `peer_value` None: the peer could not be had. `goal` None: for comparison."""

    work: str
    metric: str
    ours: float | None
    peer: str
    peer_value: float | None
    goal: Goal | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours by the peer's."""
        if self.ours is None or not self.peer_value:
            return None
        return self.ours / self.peer_value

    @property
    def met(self) -> bool | None:
        """None where there is no goal or no peer to compare with."""
        if self.goal is None:
            return None
        if self.ours is None:
            return False
        ratio = self.ratio
        return None if ratio is None else self.goal.met(ratio)

    def as_json(self) -> dict[str, Any]:
        """The published form. Where there is no figure, `ours` says why."""
        return {
            "work": self.work,
            "metric": self.metric,
            "ours": self.note or "not yet" if self.ours is None else round(self.ours, 4),
            "peer": self.peer,
            "peer_value": None if self.peer_value is None else round(self.peer_value, 4),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "goal": None if self.goal is None else str(self.goal),
            "met": self.met,
        }


def at_least(bound: float) -> Goal:
    return Goal(bound)


def at_most(bound: float) -> Goal:
    return Goal(bound, at_least=False)
