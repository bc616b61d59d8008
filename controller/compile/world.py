"""The World: everything the compiler looks at, frozen, in the compiler's own small types.

No Kubernetes dictionary gets past `read.py`; nothing here knows how objects arrive. A World is
built from Readings (one per Kubernetes object); next station is `compiler.compile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from smi.api.hub import (
    HTTPRouteGroup,
    IdentityBinding,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi.findings import Finding, ObjectRef
from smi.limits import ServiceLimits
from smi.names import DEFAULT_CLUSTER_DOMAIN, DEFAULT_TRUST_DOMAIN, NamespacedName, Workload
from smi.policy.snapshot import InboundPort, Mode, Mtls, Probe, Protocol, Regex


@dataclass(frozen=True, slots=True)
class Settings:
    """Mesh-wide settings of ConfigMap `smi-mesh-config` (R9)."""

    mode: Mode = Mode.ENFORCE
    mtls: Mtls = Mtls.STRICT
    regex: Regex = Regex.SPEC
    same_service_account: bool = False


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace's own settings; None = the mesh-wide one holds (R9, S16, S27, S32)."""

    name: str
    mode: Mode | None = None
    mtls: Mtls | None = None
    regex: Regex | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a Service. `transport` is `TCP` or `UDP`; `target` a number or a container port's name."""

    port: int
    name: str
    transport: str
    target: int | str
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Service:
    name: NamespacedName
    addresses: tuple[str, ...]
    """Cluster IPs; empty for headless and ExternalName services."""
    headless: bool
    selector: tuple[tuple[str, str], ...]
    ports: tuple[Port, ...]
    """Sorted by (port, transport): of two with one number, TCP comes first and is the one that counts."""
    limits: ServiceLimits = field(default_factory=ServiceLimits)


@dataclass(frozen=True, slots=True)
class Pod:
    name: NamespacedName
    ips: tuple[str, ...]
    """Addresses that are this pod's alone; empty before it has one, when it ended, on the host network."""
    host_network: bool
    service_account: str
    labels: tuple[tuple[str, str], ...]
    """Sorted."""
    ready: bool
    terminating: bool
    meshed: bool
    ports: tuple[InboundPort, ...]
    """Declared container ports."""
    named_ports: tuple[tuple[str, int], ...]
    """(container port name, port)."""
    probes: tuple[Probe, ...]
    exclude_inbound: frozenset[int]
    """Ports the redirect leaves alone: callers speak to them in plain."""
    exclude_outbound: frozenset[int] = frozenset()
    """Ports that the redirect leaves alone where this pod is the caller."""
    workload: Workload = field(default_factory=Workload)
    owner: tuple[str, str] = ("", "")
    """(kind, name) of the object that manages it; a Deployment's pod has a ReplicaSet here."""
    node: str = ""


@dataclass(frozen=True, slots=True)
class SlicePort:
    name: str
    port: int
    transport: str


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    address: str
    ready: bool
    serving: bool
    """It would answer: ready but for being about to end."""
    pod: NamespacedName | None
    hostname: str


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    name: NamespacedName
    service: NamespacedName | None
    ports: tuple[SlicePort, ...]
    endpoints: tuple[SliceEndpoint, ...]


Value = (
    Settings
    | Namespace
    | Service
    | Pod
    | EndpointSlice
    | TrafficSplit
    | TrafficTarget
    | HTTPRouteGroup
    | TCPRoute
    | UDPRoute
    | IdentityBinding
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One Kubernetes object as the compiler understands it.

    Two readings with equal `digest` mean the same to the compiler: a watcher may drop the second.
    """

    ref: ObjectRef
    value: Value | None
    """None: nothing usable (the findings say why), or an object that is none of the mesh's business."""
    findings: tuple[Finding, ...]
    digest: str
    uid: str = ""
    generation: int = 0
    """Generation the findings are about; 0 where Kubernetes has none."""


@dataclass(frozen=True, slots=True)
class SmiObject:
    """What status needs to know of an SMI object, readable or not (S31)."""

    ref: ObjectRef
    uid: str
    generation: int
    readable: bool


@dataclass(frozen=True, slots=True)
class World:
    """Everything at one moment. Build it with `World.of`; the mappings are not to be changed."""

    trust_domain: str = DEFAULT_TRUST_DOMAIN
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN
    settings: Settings = Settings()
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    services: Mapping[NamespacedName, Service] = field(default_factory=dict)
    pods: Mapping[NamespacedName, Pod] = field(default_factory=dict)
    slices: Mapping[NamespacedName, EndpointSlice] = field(default_factory=dict)
    splits: Mapping[NamespacedName, TrafficSplit] = field(default_factory=dict)
    targets: Mapping[NamespacedName, TrafficTarget] = field(default_factory=dict)
    route_groups: Mapping[NamespacedName, HTTPRouteGroup] = field(default_factory=dict)
    tcp_routes: Mapping[NamespacedName, TCPRoute] = field(default_factory=dict)
    udp_routes: Mapping[NamespacedName, UDPRoute] = field(default_factory=dict)
    identity_bindings: Mapping[NamespacedName, IdentityBinding] = field(default_factory=dict)
    smi_objects: tuple[SmiObject, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What reading had to say, about any object."""
    policy_digest: str = ""
    """Of everything but pods and endpoint slices: equal digests, equal Policy."""
    digest: str = ""
    """Of everything: equal digests, equal Snapshot."""

    @classmethod
    def of(
        cls,
        readings: Iterable[Reading],
        *,
        trust_domain: str = DEFAULT_TRUST_DOMAIN,
        cluster_domain: str = DEFAULT_CLUSTER_DOMAIN,
    ) -> World:
        """Freeze readings into a World. Their order means nothing; of one object only one may come."""
        gathered = _Gathered()
        for reading in readings:
            gathered.add(reading)
        scope = f"{trust_domain} {cluster_domain}"
        policy_digest = _digest(scope, gathered.policy_digests)
        return cls(
            trust_domain=trust_domain,
            cluster_domain=cluster_domain.lower(),
            settings=gathered.settings,
            namespaces=gathered.namespaces,
            services=gathered.services,
            pods=gathered.pods,
            slices=gathered.slices,
            splits=gathered.splits,
            targets=gathered.targets,
            route_groups=gathered.route_groups,
            tcp_routes=gathered.tcp_routes,
            udp_routes=gathered.udp_routes,
            identity_bindings=gathered.identity_bindings,
            smi_objects=tuple(sorted(gathered.smi_objects, key=lambda known: known.ref)),
            findings=tuple(sorted(gathered.findings)),
            policy_digest=policy_digest,
            digest=_digest(policy_digest, gathered.workload_digests),
        )


class _Gathered:
    """The one mutable moment of a World."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.namespaces: dict[str, Namespace] = {}
        self.services: dict[NamespacedName, Service] = {}
        self.pods: dict[NamespacedName, Pod] = {}
        self.slices: dict[NamespacedName, EndpointSlice] = {}
        self.splits: dict[NamespacedName, TrafficSplit] = {}
        self.targets: dict[NamespacedName, TrafficTarget] = {}
        self.route_groups: dict[NamespacedName, HTTPRouteGroup] = {}
        self.tcp_routes: dict[NamespacedName, TCPRoute] = {}
        self.udp_routes: dict[NamespacedName, UDPRoute] = {}
        self.identity_bindings: dict[NamespacedName, IdentityBinding] = {}
        self.smi_objects: list[SmiObject] = []
        self.findings: list[Finding] = []
        self.policy_digests: list[str] = []
        self.workload_digests: list[str] = []

    def add(self, reading: Reading) -> None:
        ref = reading.ref
        workload = ref.kind in ("Pod", "EndpointSlice")
        (self.workload_digests if workload else self.policy_digests).append(reading.digest)
        self.findings.extend(reading.findings)
        if ref.group.endswith(".smi-spec.io"):
            readable = reading.value is not None
            self.smi_objects.append(SmiObject(ref, reading.uid, reading.generation, readable))
        self._place(NamespacedName(ref.namespace, ref.name), reading.value)

    def _place(self, name: NamespacedName, value: Value | None) -> None:
        match value:
            case Pod():
                self.pods[name] = value
            case EndpointSlice():
                self.slices[name] = value
            case Service():
                self.services[name] = value
            case Namespace():
                self.namespaces[value.name] = value
            case TrafficSplit():
                self.splits[name] = value
            case TrafficTarget():
                self.targets[name] = value
            case HTTPRouteGroup():
                self.route_groups[name] = value
            case TCPRoute():
                self.tcp_routes[name] = value
            case UDPRoute():
                self.udp_routes[name] = value
            case IdentityBinding():
                self.identity_bindings[name] = value
            case Settings():
                self.settings = value


def _digest(scope: str, parts: list[str]) -> str:
    return blake2b("\n".join((scope, *sorted(parts))).encode(), digest_size=16).hexdigest()
