"""What a proxy says about its own traffic of the last seconds, read strictly. Pure.

The format is the proxy's `/samples`, version 1: one row per other side, service and backend, with counts and
a histogram of durations in milliseconds that covers every outcome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from smi.names import NamespacedName, Workload

VERSION: Final = 1
INBOUND: Final = "inbound"
OUTBOUND: Final = "outbound"
MAX_BUCKETS: Final = 200


class SamplesError(ValueError):
    """A proxy's answer cannot be used; says what is wrong with it."""


@dataclass(slots=True)
class Tally:
    """Requests added up. `buckets`: upper bound in ms (inclusive; infinity for the rest) → requests."""

    success: int = 0
    failure: int = 0
    buckets: dict[float, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.success or self.failure)

    def add(self, other: Tally) -> None:
        self.success += other.success
        self.failure += other.failure
        for bound, count in other.buckets.items():
            self.buckets[bound] = self.buckets.get(bound, 0) + count

    def quantile(self, share: Fraction) -> float:
        """Milliseconds below which `share` of the requests took, linear within a bucket; 0 without any.

        As `histogram_quantile` of Prometheus: what is beyond the last bound counts as the last bound.
        """
        total = sum(self.buckets.values())
        if not total:
            return 0.0
        rank, seen, below = float(share) * total, 0, 0.0
        for bound in sorted(self.buckets):
            count = self.buckets[bound]
            if count and seen + count >= rank:
                if math.isinf(bound):
                    return below
                return below + (bound - below) * max(rank - seen, 0.0) / count
            seen += count
            if not math.isinf(bound):
                below = bound
        return below


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side, as far as it is known."""

    pod: NamespacedName | None = None
    namespace: str = ""
    workload: Workload = field(default_factory=Workload)
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Requests of one pod with one peer. Empty names are not known, or there is none."""

    direction: str
    service: str
    backend: str
    split: str
    peer: Peer
    tally: Tally


@dataclass(frozen=True, slots=True)
class Samples:
    """All rows of one pod."""

    pod: NamespacedName
    rows: tuple[Row, ...]


def parse_samples(document: Any, pod: NamespacedName) -> Samples:
    """The answer of the proxy of `pod` (parsed JSON). Raises SamplesError.

    The pod's name is ours, not the answer's: a proxy speaks for itself only.
    """
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise SamplesError(f"expected an object of version {VERSION}")
    if document.get("pod") not in ("", str(pod)):
        raise SamplesError(f"answered for pod {document.get('pod')!r}: the address has a new owner")
    bounds = [_number(bound) for bound in _list(document.get("bounds_ms"))]
    if bounds != sorted(set(bounds)) or len(bounds) > MAX_BUCKETS:
        raise SamplesError(f"bounds_ms must grow and be at most {MAX_BUCKETS}")
    return Samples(pod, tuple(_row(row, (*bounds, math.inf)) for row in _list(document.get("http"))))


def _row(row: Any, bounds: tuple[float, ...]) -> Row:
    if not isinstance(row, dict):
        raise SamplesError("a row must be an object")
    counts = [_count(count) for count in _list(row.get("buckets"))]
    if len(counts) != len(bounds):
        raise SamplesError(f"a row has {len(counts)} buckets for {len(bounds) - 1} bounds")
    # Empty buckets stay: each is the lower bound of the next.
    buckets = dict(zip(bounds, counts, strict=True))
    tally = Tally(_count(row.get("success")), _count(row.get("failure")), buckets)
    return Row(
        direction=_text(row, "direction"),
        service=_text(row, "service"),
        backend=_text(row, "backend"),
        split=_text(row, "split"),
        peer=_peer(row.get("peer")),
        tally=tally,
    )


def _peer(peer: Any) -> Peer:
    if not isinstance(peer, dict):
        raise SamplesError("peer must be an object")
    workload = peer.get("workload")
    parts = workload if isinstance(workload, dict) else {}
    name = _text(peer, "pod")
    try:
        pod = NamespacedName.parse(name) if name else None
    except ValueError as error:
        raise SamplesError(f"peer.pod: {error}") from None
    return Peer(
        pod,
        _text(peer, "namespace"),
        Workload(*(_text(parts, key) for key in ("kind", "name", "app", "version"))),
        _text(peer, "identity"),
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise SamplesError(f"expected a list, got {type(value).__name__}")
    return value


def _text(holder: dict[str, Any], key: str) -> str:
    value = holder.get(key, "")
    if not isinstance(value, str):
        raise SamplesError(f"{key} must be text")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SamplesError(f"a count must be a whole number, got {value!r}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise SamplesError(f"a bound must be a positive number, got {value!r}")
    return float(value)
