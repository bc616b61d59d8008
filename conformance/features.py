"""What a mesh can say it supports. Pure names; no case and no mesh is known here.

A profile claims features, a case tests exactly one, a report counts per group. Adding a feature
is adding a line to `FEATURES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Group(StrEnum):
    """The four API groups of SMI."""

    SPLIT = "split"
    ACCESS = "access"
    SPECS = "specs"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing a mesh supports or does not."""

    name: str
    group: Group
    summary: str


_SPLIT: Final = {
    "split-weights": "requests are shared among backends by weight",
    "split-lifecycle": "creating, changing and deleting a TrafficSplit changes traffic accordingly",
    "split-matches": "a TrafficSplit limited to requests that HTTPRouteGroups match",
    "split-several": "several TrafficSplits on one root service",
    "split-ports": "backends take part per port of the root service",
    "split-zero": "zero weights, missing and empty backends",
    "split-root-backend": "the root service among its own backends",
    "split-names": "the root by its short, long and fully qualified names",
    "split-selectors": "a root with any selector, or none, or headless",
    "split-tcp": "TCP connections are shared by weight",
    "split-udp": "UDP flows are shared by weight",
    "split-http2": "HTTP/2 requests are shared by weight, one by one",
    "split-grpc": "gRPC calls are shared by weight, one by one",
    "split-versions": "every published version of TrafficSplit",
    "split-admission": "invalid TrafficSplits are refused or reported",
    "split-status": "conditions and events on TrafficSplits",
    "split-smoothness": "weights are honoured in the short run too",
    "split-fallback": "opt-in fall-back to the root service",
}
_ACCESS: Final = {
    "access-deny-default": "nothing is allowed until a TrafficTarget allows it",
    "access-http": "TrafficTargets with HTTPRouteGroups",
    "access-http2": "TrafficTargets with HTTPRouteGroups, for HTTP/2 requests one by one",
    "access-tcp": "TrafficTargets with TCPRoutes",
    "access-udp": "TrafficTargets with UDPRoutes",
    "access-grpc": "gRPC calls are allowed and refused like other requests",
    "access-identity": "callers are known by their service account, whatever they say",
    "access-combination": "several TrafficTargets, rules and sources together",
    "access-references": "missing, unknown and unresolved references grant nothing",
    "access-namespaces": "TrafficTargets across namespaces",
    "access-lifecycle": "creating, changing and deleting a TrafficTarget changes traffic accordingly",
    "access-denial": "what a refused caller sees",
    "access-probes": "probes of the kubelet pass",
    "access-plaintext": "callers outside the mesh",
    "access-modes": "permissive and audit modes",
    "access-identity-binding": "IdentityBinding (v1alpha4 draft)",
    "access-versions": "every published version of TrafficTarget",
    "access-admission": "invalid TrafficTargets are refused or reported",
    "access-status": "conditions and events on TrafficTargets",
}
_SPECS: Final = {
    "specs-http-path": "pathRegex of HTTPRouteGroup",
    "specs-http-method": "methods of HTTPRouteGroup",
    "specs-http-header": "headers of HTTPRouteGroup",
    "specs-http-combination": "AND inside a match, OR between matches",
    "specs-http-normalisation": "paths are normalised before they are matched",
    "specs-tcp": "ports of TCPRoute",
    "specs-udp": "ports of UDPRoute",
    "specs-versions": "every published version of the route kinds",
    "specs-admission": "invalid routes are refused or reported",
    "specs-status": "conditions and events on routes",
}
_METRICS: Final = {
    "metrics-resources": "TrafficMetrics for every kind of resource",
    "metrics-edges": "TrafficMetrics per edge",
    "metrics-values": "counts and latencies are those of the traffic",
    "metrics-splits": "TrafficMetrics per backend of a TrafficSplit",
    "metrics-errors": "unknown resources and no traffic",
}


def _features() -> Mapping[str, Feature]:
    groups = {Group.SPLIT: _SPLIT, Group.ACCESS: _ACCESS, Group.SPECS: _SPECS, Group.METRICS: _METRICS}
    return MappingProxyType(
        {name: Feature(name, group, text) for group, names in groups.items() for name, text in names.items()}
    )


FEATURES: Final[Mapping[str, Feature]] = _features()
"""Every feature by its name, in the order of groups."""


def features_of(group: Group) -> tuple[Feature, ...]:
    """The features of one group, in order."""
    return tuple(feature for feature in FEATURES.values() if feature.group is group)
