"""The two sides of an edge, as every dialect names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dataplane.telemetry import OVERFLOW, Edge, Own
from smi.names import ServiceIdentity, Workload

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Side:
    """One side. What is not known is an empty text."""

    namespace: str
    pod: str
    """Name without namespace."""
    kind: str
    workload: str
    app: str
    version: str
    identity: str


def own_side(own: Own) -> Side:
    """The proxy's own side."""
    return _side(own.pod, own.workload, own.identity)


def far_side(edge: Edge) -> Side:
    """The other side."""
    if edge.direction == OVERFLOW:
        return Side(OVERFLOW, OVERFLOW, OVERFLOW, OVERFLOW, "", "", "")
    return _side(edge.pod, edge.workload, edge.peer)


def _side(pod: str, text: str, identity: str) -> Side:
    """A pod without an owner is its own workload."""
    namespace, _, name = pod.partition("/")
    workload = Workload.parse(text)
    kind, instance_of = workload.kind, workload.name
    if not kind and name:
        kind, instance_of = "Pod", name
    if not namespace:
        namespace = _namespace(identity)
    return Side(namespace, name, kind, instance_of, workload.app, workload.version, identity)


def _namespace(identity: str) -> str:
    try:
        return ServiceIdentity.parse(identity).namespace
    except ValueError:
        return ""


def service_account(identity: str) -> str:
    """The service account in a SPIFFE id of Kubernetes' form; empty for any other."""
    try:
        return ServiceIdentity.parse(identity).service_account
    except ValueError:
        return ""
