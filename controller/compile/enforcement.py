"""Access rules met with pods: what each meshed pod's proxy enforces. Part of the fast lane.

`access.py` lowers TrafficTargets to Rules, whose subjects are identities and label selectors;
here the selectors meet the pods that exist, and every pod gets its grants, ports and probes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.compile.access import Rule, Selector, Subjects
from controller.compile.endpoints import Endpoints, Target, identity_of, inbound_ports
from controller.compile.limits import service_ref
from controller.compile.world import Pod, World
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.lower import LoweredTarget
from smi.names import NamespacedName
from smi.policy.snapshot import Grant, Inbound, InboundPort, Mode, Mtls, Protocol, RateLimit


@dataclass(frozen=True, slots=True)
class Enforcement:
    inbound: Mapping[str, Inbound]
    concerns: Mapping[ObjectRef, frozenset[str]]
    """TrafficTarget, or Service with rate limits → the meshed pods whose inbound policy it shapes."""
    findings: tuple[Finding, ...]
    """What only the pods show (R1)."""


@dataclass(frozen=True, slots=True)
class _Posture:
    """A namespace's stance, the mesh-wide settings filled in (S27, S32, R9)."""

    mode: Mode
    mtls: Mtls


def enforce(
    rules: Sequence[Rule],
    rates: Mapping[str, tuple[RateLimit, ...]],
    world: World,
    endpoints: Endpoints,
) -> Enforcement:
    """Give every meshed pod its Inbound. `rates`: the rate limits of each Service, without ports."""
    pods = _Pods(world)
    grants = [_grant(rule, pods) for rule in rules]
    bound = [pods.matching(rule.destination) for rule in rules]
    by_pod: defaultdict[NamespacedName, list[int]] = defaultdict(list)
    for index, names in enumerate(bound):
        for name in names:
            by_pod[name].append(index)
    # Pods with the same rules share one tuple: memory follows the rules, not the pods.
    shared: dict[tuple[int, ...], tuple[Grant, ...]] = {}
    postures: dict[str, _Posture] = {}
    inbound: dict[str, Inbound] = {}
    limited: defaultdict[str, set[str]] = defaultdict(set)
    for name, pod in pods.meshed.items():
        chosen = tuple(by_pod.get(name, ()))
        if chosen not in shared:
            shared[chosen] = tuple(grants[index] for index in chosen)
        if name.namespace not in postures:
            postures[name.namespace] = _posture(world, name.namespace)
        targets = endpoints.targets.get(str(name), ())
        limits = tuple(_limits(rates, targets)) if rates else ()
        for limit in limits:
            limited[limit.service].add(str(name))
        inbound[str(name)] = _inbound(pod, world, postures[name.namespace], shared[chosen], targets, limits)
    concerns = {
        rule.lowered.ref: frozenset(map(str, names)) for rule, names in zip(rules, bound, strict=True)
    }
    for service, held_by in limited.items():
        concerns[service_ref(NamespacedName.parse(service))] = frozenset(held_by)
    findings = [
        finding
        for rule, names in zip(rules, bound, strict=True)
        for finding in _service_ports(rule, names, world, endpoints)
    ]
    return Enforcement(inbound, concerns, tuple(findings))


def _posture(world: World, namespace: str) -> _Posture:
    own = world.namespaces.get(namespace)
    return _Posture(
        mode=(own.mode if own else None) or world.settings.mode,
        mtls=(own.mtls if own else None) or world.settings.mtls,
    )


def _limits(rates: Mapping[str, tuple[RateLimit, ...]], targets: Iterable[Target]) -> Iterable[RateLimit]:
    """The rate limits of every Service that leads to a pod, on the ports it leads to (R15)."""
    ports: defaultdict[str, set[int]] = defaultdict(set)
    for target in targets:
        if target.port.service in rates and not _is_udp(target.port):
            ports[target.port.service].add(target.port.port)
    for service in sorted(ports):
        for limit in rates[service]:
            yield replace(limit, ports=frozenset(ports[service]))


def _inbound(
    pod: Pod,
    world: World,
    posture: _Posture,
    grants: tuple[Grant, ...],
    targets: Sequence[Target],
    limits: tuple[RateLimit, ...],
) -> Inbound:
    return Inbound(
        pod=str(pod.name),
        identity=identity_of(pod, world.trust_domain),
        mode=posture.mode,
        mtls=posture.mtls,
        same_service_account=world.settings.same_service_account,
        grants=grants,
        ports=inbound_ports(pod, targets),
        probes=pod.probes,
        limits=limits,
    )


class _Pods:
    """Meshed pods by identity and by namespace."""

    def __init__(self, world: World) -> None:
        self.meshed = {name: pod for name, pod in world.pods.items() if pod.meshed}
        self._by_identity: defaultdict[str, list[NamespacedName]] = defaultdict(list)
        self._by_namespace: defaultdict[str, list[Pod]] = defaultdict(list)
        for name, pod in self.meshed.items():
            self._by_identity[identity_of(pod, world.trust_domain)].append(name)
            self._by_namespace[name.namespace].append(pod)

    def matching(self, subjects: Subjects) -> frozenset[NamespacedName]:
        """The meshed pods that some identity or selector names."""
        found = {name for identity in subjects.identities for name in self._by_identity.get(identity, ())}
        return frozenset(found | self.selected(subjects.selectors))

    def selected(self, selectors: Iterable[Selector]) -> set[NamespacedName]:
        return {
            pod.name
            for selector in selectors
            for pod in self._by_namespace.get(selector.namespace, ())
            if selector.selects(dict(pod.labels))
        }


def _grant(rule: Rule, pods: _Pods) -> Grant:
    lowered = rule.lowered
    return Grant(
        target=str(lowered.name),
        sources=rule.sources.identities,
        source_pods=frozenset(map(str, pods.selected(rule.sources.selectors))),
        port=lowered.port,
        tcp=lowered.tcp,
        udp=lowered.udp,
        http=lowered.http,
    )


def _service_ports(
    rule: Rule, names: frozenset[NamespacedName], world: World, endpoints: Endpoints
) -> Iterable[Finding]:
    """R1: port numbers of a rule that no destination pod listens on, but that its Service is known by."""
    lowered = rule.lowered
    wanted = {(number, False) for number in (lowered.tcp.ports if lowered.tcp else ())}
    wanted |= {(number, True) for number in (lowered.udp.ports if lowered.udp else ())}
    if lowered.port is not None:
        wanted |= {(lowered.port, udp) for udp in _transports(lowered)}
    if not wanted or not names:
        return
    targets = [target for name in names for target in endpoints.targets.get(str(name), ())]
    declared = [port for name in names for port in world.pods[name].ports]
    own = {(port.port, _is_udp(port)) for port in (*declared, *(target.port for target in targets))}
    for number, udp in sorted(wanted - own):
        meant = _meant(number, [target for target in targets if _is_udp(target.port) == udp])
        if meant:
            message = f"{number} is the Service's port; access rules name the pods' port: write {meant}"
            yield Finding(
                rule.lowered.ref, Severity.WARNING, Reason.SERVICE_PORT_AS_POD_PORT, message, "spec.rules"
            )


def _transports(lowered: LoweredTarget) -> Iterable[bool]:
    """Whether `destination.port` means a UDP port, or another, or both: as the rules beside it do (R1)."""
    if lowered.udp is not None:
        yield True
    if lowered.udp is None or lowered.tcp is not None or lowered.http is not None:
        yield False


def _is_udp(port: InboundPort) -> bool:
    return port.protocol is Protocol.UDP


def _meant(number: int, targets: Iterable[Target]) -> str:
    found = sorted({target.port.port for target in targets if target.service_port == number})
    return ", ".join(map(str, found))
