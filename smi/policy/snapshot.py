"""What a proxy enforces and where it may send, as frozen data: the contract of both planes.

The controller compiles these values, `codec` carries them, the sidecar reads them, and
`explain` and the tests call the same decision functions on them. Keys are plain strings
(`namespace/name`, `namespace/name:port`) because they are compared and hashed on every request.
Nothing here is compiled (no regex objects): `match`, `access` and `split` do that once per update.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Protocol(StrEnum):
    """What is spoken on a port, as far as the manifests say (appProtocol, port name prefix)."""

    DETECT = "detect"
    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    TCP = "tcp"
    TLS = "tls"
    UDP = "udp"


class Mode(StrEnum):
    """S27, R9: what happens to a request that no TrafficTarget allows."""

    ENFORCE = "enforce"
    PERMISSIVE = "permissive"
    AUDIT = "audit"


class Mtls(StrEnum):
    """S32: what happens to a caller without a mesh identity."""

    STRICT = "strict"
    PERMISSIVE = "permissive"


class Regex(StrEnum):
    """S16: how a pathRegex is anchored. SPEC: at its start only. FULL: OSM's whole-string reading."""

    SPEC = "spec"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """One match of one HTTPRouteGroup (S16, S17). Everything set must hold (AND)."""

    group: str
    """`namespace/name` of the HTTPRouteGroup."""
    name: str
    path: str | None
    """Pattern over the normalised path without query; None = any path."""
    methods: frozenset[str]
    """Upper-case methods; empty = any."""
    headers: tuple[tuple[str, str], ...]
    """(lower-case name, pattern searched in the value), sorted; `host` means the authority."""
    regex: Regex = Regex.SPEC


@dataclass(frozen=True, slots=True)
class PortSet:
    """Pod ports (targetPort, R1) of TCPRoutes or UDPRoutes. `every` = all ports (S24)."""

    every: bool = False
    ports: frozenset[int] = frozenset()

    def __contains__(self, port: object) -> bool:
        return self.every or port in self.ports


@dataclass(frozen=True, slots=True)
class Grant:
    """One TrafficTarget as one destination pod sees it (S21, S22, R2).

    A rule kind that the target does not have at all is None; one that it has but that resolves to
    nothing is an empty PortSet / empty tuple and matches nothing, so a missing half never widens.
    """

    target: str
    """`namespace/name` of the TrafficTarget."""
    sources: frozenset[str]
    """SPIFFE ids that may call."""
    source_pods: frozenset[str] = frozenset()
    """`namespace/pod` of callers selected by label (IdentityBinding podLabelSelector)."""
    port: int | None = None
    """`destination.port` of access v1alpha1/2: the grant holds on this pod port only."""
    tcp: PortSet | None = None
    udp: PortSet | None = None
    http: tuple[RouteMatch, ...] | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A kubelet HTTP probe of this pod (S26, R10). `path` without query."""

    port: int
    path: str


@dataclass(frozen=True, slots=True)
class InboundPort:
    """A pod port that some Service or container declares, with what is spoken there."""

    port: int
    protocol: Protocol
    service: str = ""
    """The Service (`namespace/name`) whose port this is, for telemetry only; of several the one with
    the shortest name, then the first: the root `api` rather than the leaf `api-v1`."""


class Limited(StrEnum):
    """What a rate limit counts."""

    REQUESTS = "requests"
    CONNECTIONS = "connections"
    """Opaque TCP connections."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one pod takes: `burst` at once, and `count` per `seconds` in the long run (R15)."""

    service: str
    """The Service (`namespace/name`) whose annotation says so."""
    text: str
    """The limit as its author may write it, for messages and metrics."""
    what: Limited
    ports: frozenset[int]
    """The pod ports that the Service leads to."""
    count: int
    seconds: int
    burst: int
    per_client: bool = False
    """Every caller's identity has a bucket of its own; those without one share one."""
    source: str | None = None
    """Holds for the caller with this SPIFFE id only."""
    matches: tuple[RouteMatch, ...] | None = None
    """Holds for requests that meet one of these only; None = for all."""


@dataclass(frozen=True, slots=True)
class Outliers:
    """When one of a Service's endpoints is left out for a while (R16)."""

    consecutive_errors: int | None = None
    """Answers of 5xx, and failures to get an answer, in a row."""
    consecutive_gateway_errors: int | None = None
    """The same of 502, 503 and 504 only."""
    base_seconds: float = 30.0
    """Times how often it was left out before."""
    max_seconds: float = 300.0
    max_percent: int = 10
    """Of the endpoints, left out at the same time; one may always be."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """What one caller's sidecar may have under way to a port of a Service (R16); None = no such bound."""

    max_connections: int | None = None
    """HTTP/1.1 requests, each of which has a connection of its own, and opaque connections."""
    max_pending: int | None = None
    """HTTP/1.1 requests that wait for one of these to end."""
    max_requests: int | None = None
    max_retries: int | None = None
    retry_percent: int | None = None
    """Retries in percent of the requests under way; three are always allowed."""
    outliers: Outliers | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """Everything one pod's proxy enforces on traffic to its pod."""

    pod: str
    """`namespace/name`."""
    identity: str
    """SPIFFE id of the pod itself."""
    mode: Mode = Mode.ENFORCE
    mtls: Mtls = Mtls.STRICT
    same_service_account: bool = False
    """S28: callers with this very identity are allowed."""
    grants: tuple[Grant, ...] = ()
    """Sorted by target."""
    ports: tuple[InboundPort, ...] = ()
    probes: tuple[Probe, ...] = ()
    limits: tuple[RateLimit, ...] = ()
    """All of them hold, whichever Service a caller used."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One eligible backend of a split on one port (S5): `cluster` is the key of its endpoints."""

    service: str
    weight: int
    """>= 0; weights of one split are in one unit, exact (quantities are scaled to whole numbers)."""
    cluster: str


@dataclass(frozen=True, slots=True)
class Split:
    """One TrafficSplit on one port of its root (S3-S11)."""

    name: str
    """`namespace/name` of the TrafficSplit."""
    matches: tuple[RouteMatch, ...] | None
    """None = catch-all; an empty tuple matches nothing (R3)."""
    backends: tuple[Backend, ...]
    fallback_root: bool = False
    """S8, R5: with nobody to send to, use the root's own endpoints instead of 503."""


@dataclass(frozen=True, slots=True)
class Destination:
    """How to send to one address. What a subscription is answered with.

    `cluster` None means: not known to the mesh, pass through to the original address unchanged.
    """

    service: str | None = None
    """Root service `namespace/name`; None for a single pod or a pass-through."""
    port: int = 0
    protocol: Protocol = Protocol.DETECT
    cluster: str | None = None
    """Key of the root's own endpoints: `namespace/name:port`, or `pod/namespace/name:port`."""
    splits: tuple[Split, ...] = ()
    """Filtered splits first, each kind ordered by (creationTimestamp, name) (S11); at most one
    catch-all, the last."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One endpoint that takes calls. `port` is the pod's port (targetPort)."""

    ip: str
    port: int
    pod: str | None = None
    """`namespace/name`."""
    identity: str | None = None
    """SPIFFE id that must be in the peer's certificate; None = not meshed, spoken to in plain."""
    workload: str = ""
    """What the pod is an instance of (`smi.names.Workload`), for telemetry only."""
    leaving: bool = False
    """Its pod is being deleted but still serves: one of a cluster that has no ready endpoint (S7)."""


Cluster = tuple[Endpoint, ...]
"""Endpoints of one key, sorted: the ready ones, or, where there are none, those that are leaving."""

PASSTHROUGH = Destination()
