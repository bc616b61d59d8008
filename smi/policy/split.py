"""Where a call goes: which split takes it, and which backend is next (rules S7-S11, S13, S14, reading R4).

`choose` runs per request on a table compiled once per update; `Picker` hands out backends so that
every window of picks has its exact share. Knows nothing of endpoints, sockets or randomness: the
phase of a Picker is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Final

from smi.policy.match import CompiledMatch, Request, compile_matches
from smi.policy.snapshot import Backend, Cluster, Destination, Split


@dataclass(frozen=True, slots=True)
class Root:
    """No split takes the call: it goes to the root's own endpoints (S9)."""


@dataclass(frozen=True, slots=True)
class Via:
    """A split takes the call. `index` is its place in `Destination.splits`."""

    split: Split
    index: int


Chosen = Root | Via
ROOT: Final = Root()


@dataclass(frozen=True, slots=True, eq=False)
class DestinationTable:
    """A destination's splits, ready to be asked."""

    destination: Destination
    quarantined: tuple[str, ...]
    """Patterns this proxy could not compile; their matches match nothing (R3)."""
    _ranked: tuple[tuple[CompiledMatch, Via], ...]
    """All matches of filtered splits, the best first: the first that is met decides (R4)."""
    _rest: Chosen
    """What takes a call that meets no filtered split."""


def compile_destination(destination: Destination) -> DestinationTable:
    """Rank the splits' matches: more header filters, longer literal path, older split (S11, R4)."""
    quarantined: list[str] = []
    ranked: list[tuple[CompiledMatch, Via]] = []
    rest: Chosen = ROOT
    for index, split in enumerate(destination.splits):
        via = Via(split, index)
        if split.matches is None:
            rest = via if rest is ROOT else rest
        else:
            ranked += ((match, via) for match in compile_matches(split.matches, quarantined))
    ranked.sort(key=lambda item: (-item[0].filters, -item[0].literal, item[1].index))
    return DestinationTable(destination, tuple(quarantined), tuple(ranked), rest)


def choose(table: DestinationTable, request: Request | None) -> Chosen:
    """Which split takes this call; `request` None means a TCP connection or a UDP flow (S13, R4)."""
    if request is not None:
        for match, via in table._ranked:
            if match.matches(request):
                return via
    return table._rest


def eligible(split: Split, ready: Callable[[str], bool]) -> tuple[Backend, ...]:
    """The backends that may get calls: weight over 0 and `ready(cluster)` (S7).

    Empty means 503, or the root's endpoints where `split.fallback_root` says so (S8, R5).
    """
    return tuple(backend for backend in split.backends if backend.weight > 0 and ready(backend.cluster))


def takers(split: Split, cluster: Callable[[str], Cluster]) -> tuple[Backend, ...]:
    """The backends that get calls, by the endpoints that `cluster` gives for a key (S7).

    Those with ready endpoints; if there is none, those whose last endpoints are leaving but still serve.
    """

    def lasting(key: str) -> bool:
        return any(not endpoint.leaving for endpoint in cluster(key))

    return eligible(split, lasting) or eligible(split, lambda key: bool(cluster(key)))


class Picker:
    """Hands out indices of backends by weight, smoothly and exactly (S14).

    The order is Tijdeman's chairman assignment ("The chairman assignment problem", Discrete
    Mathematics 32, 1980): after every pick each of n backends is within 1 - 1/(2n-2) of its exact
    share, so over any window of picks within 1 for two backends and within 2 for any number. Whole
    number arithmetic, so nothing drifts.

    `phase` moves the starting point, so that proxies do not step together. A cycle of up to
    `CYCLE` picks is written down once and then read; a longer one is computed pick by pick.
    """

    CYCLE: Final = 1024

    __slots__ = ("_at", "_credit", "_cycle", "_indices", "_total", "_weights")

    def __init__(self, weights: Sequence[int], phase: int = 0) -> None:
        """Weights are whole numbers >= 0; ValueError when one is negative or none is positive."""
        if any(weight < 0 for weight in weights):
            raise ValueError("a weight is negative")
        self._indices = tuple(index for index, weight in enumerate(weights) if weight > 0)
        if not self._indices:
            raise ValueError("no weight is positive")
        unit = gcd(*weights)
        self._weights = tuple(weight // unit for weight in weights if weight > 0)
        self._total = sum(self._weights)
        self._credit = [0] * len(self._weights)
        self._cycle: tuple[int, ...] = ()
        self._at = 0
        if self._total <= self.CYCLE:
            self._cycle = tuple(self._indices[self._step()] for _ in range(self._total))
            self._at = phase % self._total
        else:
            self._start(phase % self._total)

    def pick(self) -> int:
        """The index (into the weights given) that is next."""
        cycle = self._cycle
        if not cycle:
            return self._indices[self._step()]
        at = self._at
        self._at = at + 1 if at + 1 < len(cycle) else 0
        return cycle[at]

    def _start(self, phase: int) -> None:
        """Go to a place in a cycle too long to write down.

        For two backends any place can be computed: the first has had the nearest whole number to
        its share (a tie goes to the lower index). For more it is reached by stepping, CYCLE steps
        at most.
        """
        if len(self._weights) == 2:
            first, total = self._weights[0], self._total
            had = (2 * first * phase + total) // (2 * total)
            self._credit[0] = first * phase - total * had
            self._credit[1] = -self._credit[0]
        else:
            for _ in range(phase % self.CYCLE):
                self._step()

    def _step(self) -> int:
        """One assignment: among those owed at least 1/(2n-2), the one with the earliest deadline.

        With credit c, weight w and total W (all whole), owed is c/W and the deadline, but for what
        is common to all, (W(2n-3) - c(2n-2)) / w. The n credits sum to 0 after every step.
        """
        credit, total = self._credit, self._total
        scale = 2 * len(credit) - 2
        best, best_slack, best_weight = 0, 0, 0
        for index, weight in enumerate(self._weights):
            owed = credit[index] = credit[index] + weight
            if owed * scale < total:
                continue
            slack = total * (scale - 1) - owed * scale
            if best_weight == 0 or slack * best_weight < best_slack * weight:
                best, best_slack, best_weight = index, slack, weight
        credit[best] -= total
        return best
