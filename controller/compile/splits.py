"""TrafficSplits on the ports of their root Services → Destinations (S3-S12, R3-R6, R13).

What one split says by itself is `smi.lower`'s; here it meets the Services that exist and the
other splits of its root. Computed from the whole set of objects every time (S15).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.compile.topology import counted_ports, destination_key, port_of
from controller.compile.world import Port, Service, World
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.names import NamespacedName
from smi.policy.snapshot import Backend, Destination, RouteMatch, Split


@dataclass(frozen=True, slots=True)
class Routing:
    """Where every Service port leads."""

    destinations: Mapping[str, Destination]
    concerns: Mapping[ObjectRef, frozenset[str]]
    """TrafficSplit → the destination keys it shapes."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A split that may take part, with its names resolved."""

    ref: ObjectRef
    name: NamespacedName
    created: str
    root: NamespacedName
    backends: tuple[tuple[NamespacedName, int], ...]
    """(Service, weight), as written."""
    matches: tuple[RouteMatch, ...] | None
    fallback_root: bool

    @property
    def age(self) -> tuple[bool, str, NamespacedName]:
        """Oldest first; an object that no API server has stamped yet is the newest (S11)."""
        return not self.created, self.created, self.name


@dataclass(slots=True)
class _Notes:
    """Findings and concerns as they turn up."""

    findings: list[Finding] = field(default_factory=list)
    concerns: dict[ObjectRef, frozenset[str]] = field(default_factory=dict)

    def warn(self, ref: ObjectRef, reason: Reason, message: str, where: str = "") -> None:
        self.findings.append(Finding(ref, Severity.WARNING, reason, message, where))


def compile_splits(world: World) -> Routing:
    """Every Service port's Destination, with the splits that take part on it."""
    notes = _Notes()
    by_root = _by_root(world, notes)
    destinations: dict[str, Destination] = {}
    for name, service in world.services.items():
        effective = _effective(by_root.get(name, ()), notes)
        for port in counted_ports(service):
            key = destination_key(name, port.port)
            splits = tuple(_on_port(split, port, world) for split in effective)
            destinations[key] = Destination(str(name), port.port, port.protocol, key, splits)
    for root, candidates in by_root.items():
        for candidate in candidates:
            _check(candidate, world.services.get(root), world, notes)
        if root not in world.services:
            _effective(candidates, notes)
    return Routing(destinations, notes.concerns, tuple(notes.findings))


def _by_root(world: World, notes: _Notes) -> Mapping[NamespacedName, list[_Candidate]]:
    found: defaultdict[NamespacedName, list[_Candidate]] = defaultdict(list)
    for split in world.splits.values():
        candidate = _candidate(split, world, notes)
        if candidate is not None:
            found[candidate.root].append(candidate)
    return found


def _effective(candidates: Iterable[_Candidate], notes: _Notes) -> tuple[_Candidate, ...]:
    """The splits of one root that count: all filtered ones, then the oldest catch-all (S11)."""
    ordered = sorted(candidates, key=lambda split: split.age)
    filtered = [split for split in ordered if split.matches is not None]
    catch_all = [split for split in ordered if split.matches is None]
    for other in catch_all[1:]:
        first = catch_all[0].name
        message = f"TrafficSplit {first} is older and already splits all traffic of {other.root}; this one has no effect"
        notes.warn(other.ref, Reason.CONFLICTED, message, "spec.service")
    return (*filtered, *catch_all[:1])


def _on_port(split: _Candidate, port: Port, world: World) -> Split:
    """A split on one port of its root: with the backends that expose that very port (S5, S6)."""
    backends = tuple(
        Backend(str(name), weight, destination_key(name, port.port))
        for name, weight in split.backends
        if _exposes(world.services.get(name), port)
    )
    return Split(str(split.name), split.matches, backends, split.fallback_root)


def _exposes(service: Service | None, port: Port) -> bool:
    own = None if service is None else port_of(service, port.port)
    return own is not None and own.transport == port.transport


def _check(split: _Candidate, root: Service | None, world: World, notes: _Notes) -> None:
    """Say which references of a split lead nowhere, and note which destinations it shapes."""
    ports = () if root is None else tuple(counted_ports(root))
    notes.concerns[split.ref] = frozenset(destination_key(split.root, port.port) for port in ports)
    if root is None:
        message = f"root Service {split.root} does not exist; the split waits for it"
        notes.warn(split.ref, Reason.ROOT_NOT_FOUND, message, "spec.service")
    for index, (name, _) in enumerate(split.backends):
        where = f"spec.backends[{index}].service"
        backend = world.services.get(name)
        if backend is None:
            message = f"backend Service {name} does not exist; it is left out until it does"
            notes.warn(split.ref, Reason.BACKEND_NOT_FOUND, message, where)
            continue
        for port in ports:
            if not _exposes(backend, port):
                message = (
                    f"backend Service {name} has no {port.transport} port {port.port}, which root {split.root} has; "
                    "it is left out for that port"
                )
                notes.warn(split.ref, Reason.PORT_MISMATCH, message, where)
