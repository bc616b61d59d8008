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
from smi.lower import LoweredSplit, RouteGroups, lower_traffic_split
from smi.names import NamespacedName
from smi.policy.snapshot import Backend, Destination, Split


@dataclass(frozen=True, slots=True)
class Routing:
    """Where every Service port leads."""

    destinations: Mapping[str, Destination]
    concerns: Mapping[ObjectRef, frozenset[str]]
    """TrafficSplit → the destination keys it shapes."""
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Notes:
    """Findings and concerns as they turn up."""

    findings: list[Finding] = field(default_factory=list)
    concerns: dict[ObjectRef, frozenset[str]] = field(default_factory=dict)

    def warn(self, ref: ObjectRef, reason: Reason, where: str, message: str) -> None:
        self.findings.append(Finding(ref, Severity.WARNING, reason, message, where))


def compile_splits(world: World, route_groups: RouteGroups) -> Routing:
    """Every Service port's Destination, with the splits that take part on it."""
    notes = _Notes()
    by_root = _by_root(world, route_groups, notes)
    effective = {root: _effective(splits, notes) for root, splits in by_root.items()}
    destinations: dict[str, Destination] = {}
    for name, service in world.services.items():
        for port in counted_ports(service):
            key = destination_key(name, port.port, port.transport)
            splits = tuple(_on_port(split, port, world) for split in effective.get(name, ()))
            destinations[key] = Destination(str(name), port.port, port.protocol, key, splits)
    for root, candidates in by_root.items():
        for split in candidates:
            _check(split, world.services.get(root), world, notes)
    return Routing(destinations, notes.concerns, tuple(notes.findings))


def _by_root(
    world: World, route_groups: RouteGroups, notes: _Notes
) -> Mapping[NamespacedName, list[LoweredSplit]]:
    found: defaultdict[NamespacedName, list[LoweredSplit]] = defaultdict(list)
    for split in world.splits.values():
        lowered, findings = lower_traffic_split(split, route_groups, world.cluster_domain)
        notes.findings.extend(findings)
        if lowered is not None:
            found[lowered.root].append(lowered)
    return found


def _age(split: LoweredSplit) -> tuple[bool, str, NamespacedName]:
    """Oldest first; an object that no API server has stamped yet is the newest (S11)."""
    return not split.created, split.created, split.name


def _effective(candidates: Iterable[LoweredSplit], notes: _Notes) -> tuple[LoweredSplit, ...]:
    """The splits of one root that count: all filtered ones, then the oldest catch-all (S11)."""
    ordered = sorted(candidates, key=_age)
    filtered = [split for split in ordered if split.matches is not None]
    catch_all = [split for split in ordered if split.matches is None]
    for other in catch_all[1:]:
        message = (
            f"TrafficSplit {catch_all[0].name} is older and splits all traffic of {other.root} already; "
            "this one has no effect"
        )
        notes.warn(other.ref, Reason.CONFLICTED, "spec.service", message)
    return (*filtered, *catch_all[:1])


def _on_port(split: LoweredSplit, port: Port, world: World) -> Split:
    """A split on one port of its root: with the backends that expose that very port (S5, S6)."""
    backends = tuple(
        Backend(str(name), weight, destination_key(name, port.port, port.transport))
        for name, weight in split.backends
        if _exposes(world.services.get(name), port)
    )
    return Split(str(split.name), split.matches, backends, split.fallback_root)


def _exposes(service: Service | None, port: Port) -> bool:
    return service is not None and port_of(service, port.port, port.transport) is not None


def _check(split: LoweredSplit, root: Service | None, world: World, notes: _Notes) -> None:
    """Say which names of a split lead nowhere (yet), and note which destinations it shapes."""
    ports = () if root is None else tuple(counted_ports(root))
    notes.concerns[split.ref] = frozenset(
        destination_key(split.root, port.port, port.transport) for port in ports
    )
    if root is None:
        message = f"root Service {split.root} does not exist; the split waits for it"
        notes.warn(split.ref, Reason.ROOT_NOT_FOUND, "spec.service", message)
    for index, (name, _) in enumerate(split.backends):
        where = f"spec.backends[{index}].service"
        backend = world.services.get(name)
        if backend is None:
            message = f"backend Service {name} does not exist; it is left out until it does"
            notes.warn(split.ref, Reason.BACKEND_NOT_FOUND, where, message)
            continue
        missing = [f"{port.port}/{port.transport}" for port in ports if not _exposes(backend, port)]
        if missing:
            lacks = f"backend Service {name} does not expose port {', '.join(missing)}"
            message = f"{lacks} of its root {split.root}; it is left out there"
            notes.warn(split.ref, Reason.PORT_MISMATCH, where, message)
