"""The slow lane: everything that follows from Services, settings and SMI objects alone.

Depends on no pod and no endpoint slice, so that it survives their churn untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.compile.access import Rule, compile_access
from controller.compile.fingerprint import digest_json, digest_of
from controller.compile.splits import compile_splits
from smi.findings import Finding, ObjectRef
from smi.policy.codec import encode_destination
from smi.policy.snapshot import Destination


@dataclass(frozen=True, slots=True)
class Policy:
    destinations: Mapping[str, Destination]
    addresses: Mapping[str, str]
    """ClusterIP and port → destination key."""
    rules: tuple[Rule, ...]
    concerns: Mapping[ObjectRef, frozenset[str]]
    """TrafficSplit → the destination keys it shapes."""
    users: Mapping[ObjectRef, frozenset[ObjectRef]]
    """Route object or IdentityBinding → the TrafficTargets and TrafficSplits that refer to it."""
    findings: tuple[Finding, ...]
    digest: str


def compile_policy(world: World) -> Policy:
    """Lower every SMI object and put the result on the Services that exist."""
    routing = compile_splits(world)
    access = compile_access(world)
    addresses = cluster_addresses(world)
    return Policy(
        destinations=routing.destinations,
        addresses=addresses,
        rules=access.rules,
        concerns=routing.concerns,
        users=users(world),
        findings=tuple(sorted({*routing.findings, *access.findings})),
        digest=digest_of(
            f"{key} {digest_json(encode_destination(routing.destinations[key]))}"
            for key in sorted(routing.destinations)
        ),
    )
