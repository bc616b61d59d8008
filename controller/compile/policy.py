"""The slow lane: everything that follows from Services, settings and SMI objects alone.

Depends on no pod and no endpoint slice, so that it survives their churn untouched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from controller.compile.access import Rule, compile_access
from controller.compile.fingerprint import digest_json, digest_of
from controller.compile.limits import compile_limits, service_ref
from controller.compile.routes import compile_routes
from controller.compile.splits import compile_splits
from controller.compile.topology import cluster_addresses
from controller.compile.world import World
from smi.api.hub import SPECS_GROUP, HTTPRouteGroup, IdentityBinding
from smi.findings import Finding, ObjectRef
from smi.policy.codec import encode_breaker, encode_destination
from smi.policy.snapshot import CircuitBreaker, Destination, RateLimit


@dataclass(frozen=True, slots=True)
class Policy:
    destinations: Mapping[str, Destination]
    addresses: Mapping[str, str]
    """ClusterIP and port → destination key."""
    rules: tuple[Rule, ...]
    rates: Mapping[str, tuple[RateLimit, ...]]
    """Service (`namespace/name`) → its rate limits, without ports."""
    breakers: Mapping[str, CircuitBreaker]
    """Cluster key → what a caller may have under way to it."""
    concerns: Mapping[ObjectRef, frozenset[str]]
    """TrafficSplit → the destination keys it shapes."""
    users: Mapping[ObjectRef, frozenset[ObjectRef]]
    """Route object or IdentityBinding → the TrafficTargets, TrafficSplits and Services that refer to it."""
    findings: tuple[Finding, ...]
    digest: str


def compile_policy(world: World) -> Policy:
    """Lower every SMI object and put the result on the Services that exist."""
    routes = compile_routes(world)
    routing = compile_splits(world, routes.groups)
    access = compile_access(world, routes)
    limits = compile_limits(world, routes.groups)
    return Policy(
        destinations=routing.destinations,
        addresses=cluster_addresses(world),
        rules=access.rules,
        rates=limits.rates,
        breakers=limits.breakers,
        concerns=routing.concerns,
        users=users(world),
        findings=tuple(sorted({*routes.findings, *routing.findings, *access.findings, *limits.findings})),
        digest=digest_of(
            [
                *(
                    f"{key} {digest_json(encode_destination(routing.destinations[key]))}"
                    for key in sorted(routing.destinations)
                ),
                *(f"{key} {digest_json(encode_breaker(known))}" for key, known in limits.breakers.items()),
            ]
        ),
    )


def users(world: World) -> Mapping[ObjectRef, frozenset[ObjectRef]]:
    """Who refers to what: a change of a route object concerns the proxies of all that refer to it."""
    found: defaultdict[ObjectRef, set[ObjectRef]] = defaultdict(set)
    for target in world.targets.values():
        for rule in target.rules:
            found[_route_ref(rule.kind, target.namespace, rule.name)].add(target.ref)
        for subject in (target.destination, *target.sources):
            if subject.kind == IdentityBinding.KIND:
                ref = ObjectRef(IdentityBinding.GROUP, subject.kind, subject.namespace, subject.name)
                found[ref].add(target.ref)
    for split in world.splits.values():
        for match in split.matches or ():
            found[_route_ref(match.kind, split.namespace, match.name)].add(split.ref)
    for service in world.services.values():
        for order in service.limits.rates:
            if order.route is not None:
                group = order.route.group
                found[_route_ref(HTTPRouteGroup.KIND, group.namespace, group.name)].add(
                    service_ref(service.name)
                )
    return {ref: frozenset(by) for ref, by in found.items()}


def _route_ref(kind: str, namespace: str, name: str) -> ObjectRef:
    return ObjectRef(SPECS_GROUP, kind, namespace, name)
