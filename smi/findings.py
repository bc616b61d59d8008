"""Findings: what the mesh has to say about an object, as data.

A finding never is a log line only; it ends as an Event and as a status condition (rule S31).
`Reason` is closed: a new reason is added here, with its documentation, or not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"
    """The object, or a part of it, was quarantined: it has no effect."""


class Reason(StrEnum):
    """Why a finding exists. The value is used verbatim as Event reason and condition reason."""

    INVALID = "Invalid"
    """The object does not parse; it is as if absent (R3)."""
    INVALID_WEIGHT = "InvalidWeight"
    """S3: a weight is not a whole number >= 0 (v1alpha1: a quantity >= 0)."""
    INVALID_PATTERN = "InvalidPattern"
    """S18, R3: a regular expression is refused; its match has no effect."""
    BACKEND_NOT_FOUND = "BackendNotFound"
    """S6: a backend Service does not exist (yet)."""
    PORT_MISMATCH = "PortMismatch"
    """S5, R5: a backend lacks a port of the root Service and is left out for it."""
    ROOT_NOT_FOUND = "RootNotFound"
    """The root Service of a TrafficSplit does not exist (yet)."""
    ALL_WEIGHTS_ZERO = "AllWeightsZero"
    """S8: every weight is 0; requests get 503 unless the fallback annotation says root."""
    ROOT_AMONG_BACKENDS = "RootAmongBackends"
    """S10: the root is its own backend: accepted, means the root's own endpoints."""
    CONFLICTED = "Conflicted"
    """S11: an older catch-all split of the same root is effective instead."""
    ROUTE_NOT_FOUND = "RouteNotFound"
    """S22, R3: a referenced route object does not exist."""
    MATCH_NOT_FOUND = "MatchNotFound"
    """S22, R2: a referenced match name does not exist in its group."""
    NO_RULES = "NoRules"
    """S22: a TrafficTarget without rules grants nothing."""
    NO_SOURCES = "NoSources"
    """S22: a TrafficTarget without sources grants nothing."""
    WRONG_NAMESPACE = "WrongNamespace"
    """S23: a TrafficTarget outside its destination's namespace grants nothing."""
    UNKNOWN_KIND = "UnknownKind"
    """A reference names a kind this mesh does not know in that place."""
    IDENTITY_NOT_FOUND = "IdentityNotFound"
    """A referenced IdentityBinding does not exist."""
    FOREIGN_IDENTITY = "ForeignIdentity"
    """R11: an IdentityBinding names an identity of another namespace of our own trust domain."""
    SCHEMES_OVERLAP = "SchemesOverlap"
    """R11: podLabelSelector and serviceAccount in one IdentityBinding: both count."""
    METHOD_CASE = "MethodCase"
    """R7: a method was folded to upper case."""
    TOP_LEVEL_MATCHES = "TopLevelMatches"
    """S2: `matches` at top level under v1alpha3/4 is honoured."""
    SERVICE_PORT_AS_POD_PORT = "ServicePortAsPodPort"
    """R1: a TCPRoute/UDPRoute port fits only a Service port, not a pod port."""
    UNKNOWN_SETTING = "UnknownSetting"
    """An annotation or a mesh setting has a value that is not one of the documented ones."""

    INVALID_LIMIT = "InvalidLimit"
    """R15, R16: a part of a Service's annotation about limits has no effect."""
    PORT_NAME = "PortName"
    """A Service's port is named for UDP and speaks TCP; the transport decides."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """The Kubernetes object a finding is about. `kind` is a Kubernetes kind, `group` may be empty (core)."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One statement about one object. `field` is a dotted path (`spec.backends[1].weight`) or empty."""

    ref: ObjectRef
    severity: Severity
    reason: Reason
    message: str
    field: str = ""
