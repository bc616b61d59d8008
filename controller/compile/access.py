"""TrafficTargets and IdentityBindings → Rules (S20-S24, R1, R2, R9-R11, R14). The slow lane.

A Rule names its subjects by identity and by label selector, never by pod: pods come and go without
any Rule changing. Next station: `enforcement.py`, which meets the Rules with the pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smi.findings import ObjectRef
from smi.policy.snapshot import PortSet, RouteMatch


@dataclass(frozen=True, slots=True)
class Selector:
    """Pods of one namespace by label (IdentityBinding `podLabelSelector`)."""

    namespace: str
    labels: tuple[tuple[str, str], ...]

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.labels)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Who a TrafficTarget names as its sources or its destination: identities OR selected pods."""

    identities: frozenset[str] = frozenset()
    """SPIFFE ids."""
    selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One TrafficTarget that grants something; fields as in `smi.policy.snapshot.Grant`."""

    ref: ObjectRef
    target: str
    destination: Subjects
    sources: Subjects
    port: int | None
    tcp: PortSet | None
    udp: PortSet | None
    http: tuple[RouteMatch, ...] | None
