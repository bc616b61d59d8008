"""Who stands behind each Service port: EndpointSlices joined with pods. The fast lane.

Pods and slices change all the time, policy hardly ever: nothing here reads an SMI object, and a
Service none of whose slices and pods changed keeps the very tuples it had. Next station:
`compiler.py`, which puts policy and endpoints together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.compile.topology import address_key, counted_ports, destination_key
from controller.compile.world import EndpointSlice, Pod, Port, Service, World
from smi.names import NamespacedName, ServiceIdentity
from smi.policy.snapshot import Cluster, Endpoint, InboundPort, Protocol


@dataclass(frozen=True, slots=True)
class Target:
    """A Service port on a pod port, ready or not: what is spoken there, and by which number it is known."""

    pod: str
    port: InboundPort
    service_port: int


@dataclass(frozen=True, slots=True)
class ServiceEndpoints:
    """Everything the pods and slices of one Service come to."""

    clusters: tuple[tuple[str, Cluster], ...]
    """(destination key, endpoints that take calls) of every Service port, empty ones too."""
    targets: tuple[Target, ...]
    headless: tuple[tuple[str, str], ...]
    """(`pod ip:pod port`, destination key) of a headless Service (S4)."""
    hosts: tuple[tuple[tuple[str, ...], str], ...]
    """((pod hostname, service, namespace), pod) of a headless Service (R13)."""
    touches: frozenset[str]
    """Pods (`namespace/name`) and addresses it looked at, present or not."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """All of it. `by_service` is what the next compilation may reuse."""

    by_service: Mapping[NamespacedName, ServiceEndpoints]
    clusters: Mapping[str, Cluster]
    headless: Mapping[str, tuple[str, ...]]
    """`pod ip:pod port` → destination keys of the headless Services that have it, in order."""
    hosts: Mapping[tuple[str, ...], str]
    pods_by_ip: Mapping[str, str]
    targets: Mapping[str, tuple[Target, ...]]
    """Pod → its Service ports."""


def identity_of(pod: Pod, trust_domain: str) -> str:
    """The SPIFFE id a pod has if it is meshed."""
    return ServiceIdentity(trust_domain, pod.name.namespace, pod.service_account).uri


def endpoint_of(pod: Pod, ip: str, port: int, trust_domain: str) -> Endpoint:
    """A pod's port as callers reach it: by mTLS if the pod is meshed and the port is not excluded."""
    meshed = pod.meshed and port not in pod.exclude_inbound
    identity = identity_of(pod, trust_domain) if meshed else None
    return Endpoint(ip, port, str(pod.name), identity, str(pod.workload), leaving=pod.terminating)


def compile_endpoints(world: World, before: tuple[World, Endpoints] | None = None) -> Endpoints:
    """Join every Service with its slices and pods; `before` only saves work, never changes the result."""
    join = _Join(world)
    unchanged = _unchanged(world, *before) if before else None
    by_service: dict[NamespacedName, ServiceEndpoints] = {}
    for name, service in world.services.items():
        kept = unchanged(service, join.slices.get(name, ())) if unchanged else None
        by_service[name] = kept or join.endpoints(service)
    return _merge(by_service, join.pods_by_ip)


def _merge(by_service: Mapping[NamespacedName, ServiceEndpoints], pods_by_ip: Mapping[str, Pod]) -> Endpoints:
    clusters: dict[str, Cluster] = {}
    headless: defaultdict[str, list[str]] = defaultdict(list)
    hosts: dict[tuple[str, ...], str] = {}
    targets: defaultdict[str, list[Target]] = defaultdict(list)
    for name in sorted(by_service):
        found = by_service[name]
        clusters.update(found.clusters)
        hosts.update(found.hosts)
        for address, key in found.headless:
            headless[address].append(key)
        for target in found.targets:
            targets[target.pod].append(target)
    return Endpoints(
        by_service=by_service,
        clusters=clusters,
        headless={address: tuple(keys) for address, keys in headless.items()},
        hosts=hosts,
        pods_by_ip={ip: str(pod.name) for ip, pod in pods_by_ip.items()},
        targets={pod: tuple(found_targets) for pod, found_targets in targets.items()},
    )


# --- what did not change --------------------------------------------------------------------------------


def _unchanged(
    world: World, old: World, endpoints: Endpoints
) -> Callable[[Service, tuple[EndpointSlice, ...]], ServiceEndpoints | None]:
    """A lookup of the earlier result of a Service, where everything that went into it is the same."""
    changed = set(_changed_pods(old.pods, world.pods))
    old_slices = slices_by_service(old)

    def kept(service: Service, slices: tuple[EndpointSlice, ...]) -> ServiceEndpoints | None:
        found = endpoints.by_service.get(service.name)
        same = (
            found is not None
            # Without slices a Service is joined by its selector, which any pod may come to match.
            and slices
            and old.services.get(service.name) == service
            and old_slices.get(service.name) == slices
            and found.touches.isdisjoint(changed)
        )
        return found if same else None

    return kept if world.trust_domain == old.trust_domain else lambda _service, _slices: None


def _changed_pods(old: Mapping[NamespacedName, Pod], new: Mapping[NamespacedName, Pod]) -> Iterator[str]:
    """Names and addresses of every pod that came, went or changed."""
    for name, pod in new.items():
        before = old.get(name)
        if before is not pod and before != pod:
            yield str(name)
            yield from pod.ips
            yield from before.ips if before else ()
    for name in old.keys() - new.keys():
        yield str(name)
        yield from old[name].ips


def slices_by_service(world: World) -> Mapping[NamespacedName, tuple[EndpointSlice, ...]]:
    """The slices of each Service, in the order of their names."""
    found: defaultdict[NamespacedName, list[EndpointSlice]] = defaultdict(list)
    for name in sorted(world.slices):
        endpoint_slice = world.slices[name]
        if endpoint_slice.service is not None:
            found[endpoint_slice.service].append(endpoint_slice)
    return {service: tuple(slices) for service, slices in found.items()}


# --- the join -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Address:
    """A pod (or a stranger) at an address, as a slice or a selector found it."""

    ip: str
    pod: Pod | None
    ready: bool
    leaving: bool
    """Not ready any more because it is about to end, but still serving."""
    hostname: str


class _Join:
    """The indexes one join needs, and the join itself."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.slices = slices_by_service(world)
        self.pods_by_ip = _pods_by_ip(world.pods.values())
        self._pods_in: dict[str, list[Pod]] | None = None
        self._identities: dict[tuple[str, str], str] = {}

    def endpoints(self, service: Service) -> ServiceEndpoints:
        touches: set[str] = set()
        targets: set[Target] = set()
        found: dict[str, set[Endpoint]] = {
            destination_key(service.name, port.port, port.transport): set() for port in counted_ports(service)
        }
        leaving: defaultdict[str, set[Endpoint]] = defaultdict(set)
        headless: set[tuple[str, str]] = set()
        hosts: set[tuple[tuple[str, ...], str]] = set()
        for address, port, number in self._reachable(service, touches):
            key = destination_key(service.name, port.port, port.transport)
            endpoint = self._endpoint(address, number)
            if address.ready:
                found[key].add(endpoint)
            elif address.leaving:
                leaving[key].add(endpoint)
            if endpoint.pod is not None:
                declared = InboundPort(number, port.protocol, str(service.name))
                targets.add(Target(endpoint.pod, declared, port.port))
                if service.headless:
                    headless.add((address_key(address.ip, number, port.transport), key))
                    if address.hostname:
                        hosts.add(
                            ((address.hostname, service.name.name, service.name.namespace), endpoint.pod)
                        )
        return ServiceEndpoints(
            clusters=tuple(
                (key, tuple(sorted(endpoints or leaving[key], key=_endpoint_order)))
                for key, endpoints in found.items()
            ),
            targets=tuple(sorted(targets, key=_target_order)),
            headless=tuple(sorted(headless)),
            hosts=tuple(sorted(hosts)),
            touches=frozenset(touches),
        )

    def _reachable(self, service: Service, touches: set[str]) -> Iterator[tuple[_Address, Port, int]]:
        """(address, Service port, pod port) of everything behind a Service."""
        slices = self.slices.get(service.name, ())
        if not slices:
            yield from self._selected(service)
        by_name = {(port.name, port.transport): port for port in counted_ports(service)}
        for endpoint_slice in slices:
            ports = [
                (known, port.port)
                for port in endpoint_slice.ports
                if (known := by_name.get((port.name, port.transport))) is not None
            ]
            for address in self._addresses(endpoint_slice, touches):
                for known, number in ports:
                    yield address, known, number

    def _addresses(self, endpoint_slice: EndpointSlice, touches: set[str]) -> Iterator[_Address]:
        """The addresses of a slice. One that names a pod waits until that pod is known with this address:
        a stale slice would otherwise have a meshed pod spoken to in plain, or a stranger in its place."""
        for entry in endpoint_slice.endpoints:
            touches.add(entry.address)
            if entry.pod is not None:
                touches.add(str(entry.pod))
                pod = self.world.pods.get(entry.pod)
                if pod is None or not (entry.address in pod.ips or pod.host_network):
                    continue
            else:
                pod = self.pods_by_ip.get(entry.address)
            if pod is not None and _second_family(entry.address, pod):
                continue
            terminating = pod is not None and pod.terminating
            ready = entry.ready and not terminating
            yield _Address(entry.address, pod, ready, entry.serving and terminating, entry.hostname)

    def _selected(self, service: Service) -> Iterator[tuple[_Address, Port, int]]:
        """A Service that no slice has been written for yet, by its selector."""
        if not service.selector:
            return
        for pod in self._pods_of(service.name.namespace):
            ip = next(iter(sorted(pod.ips, key=lambda ip: ":" in ip)), None)
            if ip is None or not set(service.selector) <= set(pod.labels):
                continue
            for port in counted_ports(service):
                number = (
                    port.target if isinstance(port.target, int) else dict(pod.named_ports).get(port.target)
                )
                if number:
                    ready, leaving = pod.ready and not pod.terminating, pod.ready and pod.terminating
                    yield _Address(ip, pod, ready, leaving, ""), port, number

    def _pods_of(self, namespace: str) -> Iterable[Pod]:
        if self._pods_in is None:
            grouped: defaultdict[str, list[Pod]] = defaultdict(list)
            for pod in self.world.pods.values():
                grouped[pod.name.namespace].append(pod)
            self._pods_in = grouped
        return self._pods_in.get(namespace, ())

    def _endpoint(self, address: _Address, port: int) -> Endpoint:
        if address.pod is None:
            return Endpoint(address.ip, port)
        return endpoint_of(address.pod, address.ip, port, self.world.trust_domain)


def _second_family(address: str, pod: Pod) -> bool:
    """An IPv6 address of a pod that has an IPv4 one too: the same pod must not count twice."""
    return ":" in address and any(":" not in ip for ip in pod.ips)


def _pods_by_ip(pods: Iterable[Pod]) -> Mapping[str, Pod]:
    """Address → pod. An address may outlive its pod for a moment: then the one that is not leaving has it."""
    found: dict[str, Pod] = {}
    for pod in pods:
        for ip in pod.ips:
            other = found.get(ip)
            if other is None or (pod.terminating, pod.name) < (other.terminating, other.name):
                found[ip] = pod
    return found


def _endpoint_order(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.ip, endpoint.port


def _target_order(target: Target) -> tuple[str, int, str, int, str]:
    port = target.port
    return target.pod, port.port, port.protocol, target.service_port, port.service


# --- what is spoken on a pod's ports ----------------------------------------------------------------------


def inbound_ports(pod: Pod, targets: Iterable[Target]) -> tuple[InboundPort, ...]:
    """The declared ports of a pod, sorted. A Service's word counts more than a container port's name;
    where two Services disagree the proxy has to look for itself."""
    said: dict[tuple[int, bool], set[Protocol]] = {}
    services: dict[tuple[int, bool], list[str]] = {}
    for target in targets:
        key = _note(said, target.port)
        if target.port.service:
            services.setdefault(key, []).append(target.port.service)
    own: dict[tuple[int, bool], set[Protocol]] = {}
    for port in pod.ports:
        _note(own, port)
    ports = {
        key: _agreed(said.get(key, set())) or _agreed(own.get(key, set())) for key in said.keys() | own.keys()
    }
    return tuple(
        InboundPort(key[0], protocol or Protocol.DETECT, _foremost(services.get(key, ())))
        for key, protocol in sorted(ports.items())
    )


def _foremost(services: Iterable[str]) -> str:
    return min(services, key=lambda service: (len(service), service), default="")


def _note(said: dict[tuple[int, bool], set[Protocol]], port: InboundPort) -> tuple[int, bool]:
    key = port.port, port.protocol is Protocol.UDP
    known = said.setdefault(key, set())
    if port.protocol is not Protocol.DETECT:
        known.add(port.protocol)
    return key


def _agreed(protocols: set[Protocol]) -> Protocol | None:
    if len(protocols) > 1:
        return Protocol.DETECT
    return next(iter(protocols), None)
