"""The hub: one frozen value type per SMI kind, whatever version an object was written in.

`parse` makes these, `smi.lower` turns them into policy. A hub value holds what its author said,
already normal in form (weights in one whole unit, header filters in one shape, empty namespaces
filled in) but not yet judged: references may dangle and patterns may be bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from smi.findings import ObjectRef
from smi.names import NamespacedName

SPLIT_GROUP = "split.smi-spec.io"
ACCESS_GROUP = "access.smi-spec.io"
SPECS_GROUP = "specs.smi-spec.io"
METRICS_GROUP = "metrics.smi-spec.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What every SMI object has. `created` is metadata.creationTimestamp (RFC 3339) or empty."""

    GROUP: ClassVar[str] = ""
    KIND: ClassVar[str] = ""

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0
    created: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Without the one that conversion uses (R12): what it keeps is in the fields below."""

    @property
    def key(self) -> NamespacedName:
        return NamespacedName(self.namespace, self.name)

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.GROUP, self.KIND, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class WeightedService:
    """A backend as written: `service` in any of the forms of S4, `weight` >= 0 (S3)."""

    service: str
    weight: int


@dataclass(frozen=True, slots=True)
class RouteRef:
    """A reference to a route object in the referring object's own namespace.

    `matches` None = all matches of the group (S22); a TrafficSplit's reference never has any.
    """

    kind: str
    name: str
    matches: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSplit(Resource):
    """`matches` None = the split has none (catch-all)."""

    GROUP: ClassVar[str] = SPLIT_GROUP
    KIND: ClassVar[str] = "TrafficSplit"

    service: str
    backends: tuple[WeightedService, ...]
    matches: tuple[RouteRef, ...] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A ServiceAccount or an IdentityBinding (or what else a manifest names), by full name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficTarget(Resource):
    """`port` is `destination.port` of v1alpha1/2, also when a newer version only keeps it (R12)."""

    GROUP: ClassVar[str] = ACCESS_GROUP
    KIND: ClassVar[str] = "TrafficTarget"

    destination: Subject
    rules: tuple[RouteRef, ...] = ()
    sources: tuple[Subject, ...] = ()
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityBinding(Resource):
    """The schemes of an access v1alpha4 IdentityBinding, OR'd (R11)."""

    GROUP: ClassVar[str] = ACCESS_GROUP
    KIND: ClassVar[str] = "IdentityBinding"

    pod_labels: tuple[tuple[str, str], ...] | None = None
    """matchLabels of podLabelSelector, sorted; None = no such scheme."""
    spiffe_identities: tuple[str, ...] = ()
    """As written: with or without `spiffe://`."""
    service_account: str | None = None


@dataclass(frozen=True, slots=True)
class HTTPMatch:
    """One match as written; `path` None and `methods` empty mean any. `headers` are sorted."""

    name: str
    path: str | None = None
    methods: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteGroup(Resource):
    """A named set of matches."""

    GROUP: ClassVar[str] = SPECS_GROUP
    KIND: ClassVar[str] = "HTTPRouteGroup"

    matches: tuple[HTTPMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPRoute(Resource):
    """`ports` empty = all ports (S24)."""

    GROUP: ClassVar[str] = SPECS_GROUP
    KIND: ClassVar[str] = "TCPRoute"

    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UDPRoute(Resource):
    """`ports` empty = all ports (S24)."""

    GROUP: ClassVar[str] = SPECS_GROUP
    KIND: ClassVar[str] = "UDPRoute"

    ports: tuple[int, ...] = ()


SmiObject = TrafficSplit | TrafficTarget | IdentityBinding | HTTPRouteGroup | TCPRoute | UDPRoute
