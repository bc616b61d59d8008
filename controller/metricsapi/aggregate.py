"""From what proxies counted to TrafficMetrics objects. Pure: the present is an argument.

A resource's own numbers are the traffic it received, as it saw it (`from`, `server`). Its edges are listed
in both directions, and each as both ends saw it: the difference is the network's, or a side without a proxy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from controller.metricsapi.directory import Directory, Known
from controller.metricsapi.resources import Resource
from controller.metricsapi.samples import INBOUND, OUTBOUND, Row, Samples, Tally
from smi.api.hub import TrafficSplit
from smi.api.metrics import (
    Backend,
    Direction,
    Edge,
    Metadata,
    Metric,
    ObjectReference,
    Side,
    TrafficMetrics,
)
from smi.api.quantity import format_quantity
from smi.names import NamespacedName

PARTIAL_ANNOTATION: Final = "smi-mesh.io/proxies-missing"
"""On an object whose numbers lack some proxies: how many did not answer, of how many asked."""
_PERCENTILES: Final = (99, 90, 50)
_RECEIVED: Final = (Direction.FROM, Side.SERVER)
_ALL_RECEIVED: Final = Edge(direction=Direction.FROM, side=Side.SERVER, resource=ObjectReference())


@dataclass(frozen=True, slots=True)
class Moment:
    """When and how long was measured, and whose numbers are missing."""

    now: float
    """Unix time."""
    window_seconds: int
    missing: int = 0
    asked: int = 0

    @property
    def timestamp(self) -> str:
        """RFC 3339 in UTC, to the second."""
        return datetime.fromtimestamp(int(self.now), UTC).isoformat().replace("+00:00", "Z")


def summaries(
    directory: Directory,
    resource: Resource,
    samples: Iterable[Samples],
    moment: Moment,
    included: Callable[[NamespacedName], bool],
) -> list[TrafficMetrics]:
    """One object per included resource of the kind that sent or received anything."""
    tallies: dict[NamespacedName, Tally] = {}
    for one in samples:
        if not one.rows:
            continue
        for owner in directory.of_pod(resource.kind, one.pod):
            if included(owner):
                _add_received(tallies.setdefault(owner, Tally()), one)
    return [_object(resource, name, _ALL_RECEIVED, tallies[name], moment) for name in sorted(tallies)]


def summary(
    directory: Directory,
    resource: Resource,
    name: NamespacedName,
    samples: Iterable[Samples],
    moment: Moment,
) -> TrafficMetrics:
    """The object of one resource, zeros if it received nothing."""
    tally = Tally()
    for one in samples:
        if name in directory.of_pod(resource.kind, one.pod):
            _add_received(tally, one)
    return _object(resource, name, _ALL_RECEIVED, tally, moment)


def _add_received(tally: Tally, samples: Samples) -> None:
    for row in samples.rows:
        if row.direction == INBOUND:
            tally.add(row.tally)


def edges(
    directory: Directory,
    resource: Resource,
    name: NamespacedName,
    samples: Iterable[Samples],
    moment: Moment,
) -> list[TrafficMetrics]:
    """One object per direction, side and other end. Who is not known stands as an empty resource."""
    found: defaultdict[tuple[Direction, Side, Known | None], Tally] = defaultdict(Tally)
    itself = Known(resource.kind, name)
    for one in samples:
        inside = name in directory.of_pod(resource.kind, one.pod)
        for row in one.rows:
            others = directory.of_peer(resource.kind, row)
            if inside:
                at = _SEEN_INSIDE.get(row.direction)
                for other in others or (None,):
                    if at is not None:
                        found[(*at, other)].add(row.tally)
            if itself in others:
                at = _SEEN_OUTSIDE.get(row.direction)
                for owner in directory.end_of_pod(resource.kind, one.pod):
                    if at is not None:
                        found[(*at, owner)].add(row.tally)
    return [
        _object(
            resource,
            name,
            Edge(direction=direction, side=side, resource=_reference(other)),
            found[direction, side, other],
            moment,
        )
        for direction, side, other in sorted(found, key=_order)
    ]


_SEEN_INSIDE: Final[Mapping[str, tuple[Direction, Side]]] = {
    INBOUND: _RECEIVED,
    OUTBOUND: (Direction.TO, Side.CLIENT),
}
"""What a row of the resource's own pods shows of it."""
_SEEN_OUTSIDE: Final[Mapping[str, tuple[Direction, Side]]] = {
    INBOUND: (Direction.TO, Side.SERVER),
    OUTBOUND: (Direction.FROM, Side.CLIENT),
}
"""What a row of another pod shows of the resource that is its peer."""


def split_summaries(
    directory: Directory,
    resource: Resource,
    samples: Sequence[Samples],
    moment: Moment,
    wanted: frozenset[NamespacedName],
) -> list[TrafficMetrics]:
    """One object per split and backend, as the clients saw it; also of a backend that got nothing."""
    found: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for row in _split_rows(directory, samples):
        found[row.split, row.backend].add(row.tally)
    edge = Edge(direction=Direction.FROM, side=Side.CLIENT, resource=ObjectReference())
    return [
        _object(resource, name, edge, found[str(name), service], moment, backend)
        for name in sorted(wanted & directory.splits.keys())
        for service, backend in _backends(name, directory.splits[name])
    ]


def split_edges(
    directory: Directory,
    resource: Resource,
    name: NamespacedName,
    samples: Sequence[Samples],
    moment: Moment,
) -> list[TrafficMetrics]:
    """One object per backend and calling pod."""
    split = directory.splits.get(name)
    if split is None:
        return []
    found: defaultdict[tuple[str, NamespacedName], Tally] = defaultdict(Tally)
    for one in samples:
        for row in _split_rows(directory, (one,)):
            if row.split == str(name):
                found[row.backend, one.pod].add(row.tally)
    backends = dict(_backends(name, split))
    return [
        _object(
            resource,
            name,
            Edge(
                direction=Direction.FROM,
                side=Side.CLIENT,
                resource=ObjectReference(kind="Pod", namespace=pod.namespace, name=pod.name),
            ),
            found[service, pod],
            moment,
            backends[service],
        )
        for service, pod in sorted(found)
        if service in backends
    ]


def _split_rows(directory: Directory, samples: Iterable[Samples]) -> Iterable[Row]:
    """Rows that a split decided. Where the source does not tell which, the split with that backend."""
    by_backend: dict[str, list[str]] = {}
    for name, split in directory.splits.items():
        for service, _ in _backends(name, split):
            by_backend.setdefault(service, []).append(str(name))
    for one in samples:
        for row in one.rows:
            if row.direction != OUTBOUND:
                continue
            if row.split:
                yield row
            elif row.backend:
                yield from (replace(row, split=name) for name in by_backend.get(row.backend, ()))


def _backends(name: NamespacedName, split: TrafficSplit) -> list[tuple[str, Backend]]:
    """(`namespace/name` of the service, backend) in the split's own order."""
    apex = split.service.partition(".")[0].lower()
    return [
        (f"{name.namespace}/{short}", Backend(apex=apex, name=short, weight=one.weight))
        for one in split.backends
        if (short := one.service.partition(".")[0].lower())
    ]


def _object(
    resource: Resource,
    name: NamespacedName,
    edge: Edge,
    tally: Tally,
    moment: Moment,
    backend: Backend | None = None,
) -> TrafficMetrics:
    missing = {PARTIAL_ANNOTATION: f"{moment.missing} of {moment.asked}"} if moment.missing else None
    return TrafficMetrics(
        metadata=Metadata(
            name=name.name,
            namespace=name.namespace or None,
            creationTimestamp=moment.timestamp,
            annotations=missing,
        ),
        resource=ObjectReference(
            kind=resource.kind,
            apiVersion=resource.api_version,
            namespace=name.namespace or None,
            name=name.name,
        ),
        edge=edge,
        backend=backend,
        timestamp=moment.timestamp,
        window=f"{moment.window_seconds}s",
        metrics=[*_latencies(tally), *_counts(tally)],
    )


def _latencies(tally: Tally) -> Iterable[Metric]:
    for percent in _PERCENTILES:
        microseconds = round(tally.quantile(Fraction(percent, 100)) * 1000)
        value = format_quantity(Fraction(microseconds, 10**6))
        yield Metric(name=f"p{percent}_response_latency", unit="seconds", value=value)


def _counts(tally: Tally) -> Iterable[Metric]:
    yield Metric(name="success_count", value=str(tally.success))
    yield Metric(name="failure_count", value=str(tally.failure))


def _reference(other: Known | None) -> ObjectReference:
    if other is None:
        return ObjectReference()
    return ObjectReference(kind=other.kind, namespace=other.name.namespace or None, name=other.name.name)


def _order(key: tuple[Direction, Side, Known | None]) -> tuple[str, str, str]:
    direction, side, other = key
    return direction, side, str(other) if other is not None else ""
