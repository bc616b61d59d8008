"""What a compilation comes to: what every proxy is served from, and what to tell each object's author."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.compile.conditions import ObjectStatus
from controller.compile.endpoints import Endpoints
from controller.compile.policy import Policy
from controller.compile.world import World
from smi.findings import Finding, ObjectRef
from smi.policy.snapshot import CircuitBreaker, Cluster, Destination, Inbound


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent configuration of the whole mesh. Mappings are not to be changed."""

    inbound: Mapping[str, Inbound]
    """Meshed pod (`namespace/name`) → what its proxy enforces."""
    destinations: Mapping[str, Destination]
    """`namespace/name:port` → how to send there."""
    clusters: Mapping[str, Cluster]
    """`namespace/name:port` → ready endpoints. Single-pod clusters are made by `slicing` on demand."""
    breakers: Mapping[str, CircuitBreaker]
    """Cluster key → what one caller may have under way to it, where its Service says so."""
    addresses: Mapping[str, str]
    """`ip:port` → destination key: ClusterIPs, and the pods of headless Services that are split (S4)."""
    pods_by_ip: Mapping[str, str]
    findings: tuple[Finding, ...]
    """Everything there is to say, sorted, each once."""
    conditions: Mapping[ObjectRef, ObjectStatus]
    """One for each SMI object (S31), without `Programmed`: that is the hub's to add."""
    digest: str
    """Equal digests: nothing that a proxy or an author would see differs."""
    made_from: MadeFrom = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """The stages behind a Snapshot: what `slicing` looks things up in and the next compilation reuses."""

    world: World
    policy: Policy
    endpoints: Endpoints
