"""Limits that Services' annotations order → RateLimits and CircuitBreakers (R15, R16). The slow lane.

What an order refers to is resolved here, but for pods' ports: those come with the endpoints, in
`enforcement.py`. A CircuitBreaker belongs to a Service's port, by the key of its Cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.compile.topology import TCP, counted_ports, destination_key
from controller.compile.world import Service, World
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.limits import RateOrder
from smi.lower import RouteGroups
from smi.names import (
    CONNECTION_RATE_LIMIT_ANNOTATION,
    RATE_LIMIT_ANNOTATION,
    NamespacedName,
    ServiceIdentity,
)
from smi.policy.snapshot import CircuitBreaker, Limited, Protocol, RateLimit, RouteMatch

_HTTP = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC})
_OPAQUE = frozenset({Protocol.TCP, Protocol.TLS})


@dataclass(frozen=True, slots=True)
class Limits:
    rates: Mapping[str, tuple[RateLimit, ...]]
    """Service (`namespace/name`) → its rate limits, without ports."""
    breakers: Mapping[str, CircuitBreaker]
    """Cluster key → what a caller may have under way to it."""
    findings: tuple[Finding, ...]


def compile_limits(world: World, groups: RouteGroups) -> Limits:
    """Resolve the orders of every Service. One that leads nowhere limits nothing, with a finding."""
    findings: list[Finding] = []
    rates: dict[str, tuple[RateLimit, ...]] = {}
    breakers: dict[str, CircuitBreaker] = {}
    for name in sorted(name for name, service in world.services.items() if service.limits):
        service = world.services[name]
        found = tuple(
            limit
            for order in service.limits.rates
            if (limit := _rate(order, service, world, groups, findings)) is not None
        )
        findings.extend(_pointless(service))
        if found:
            rates[str(name)] = found
        if service.limits.breaker is not None:
            for port in counted_ports(service):
                if port.transport == TCP:
                    breakers[destination_key(name, port.port)] = service.limits.breaker
    return Limits(rates, breakers, tuple(findings))


def service_ref(name: NamespacedName) -> ObjectRef:
    return ObjectRef("", "Service", name.namespace, name.name)


def _rate(
    order: RateOrder, service: Service, world: World, groups: RouteGroups, findings: list[Finding]
) -> RateLimit | None:
    matches: tuple[RouteMatch, ...] | None = None
    if order.route is not None:
        known = groups.get(order.route.group)
        wanted = order.route.match
        matches = tuple(match for match in known or () if wanted in ("", match.name))
        if known is None:
            message = f"HTTPRouteGroup {order.route.group} does not exist (or cannot be read)"
            findings.append(_warn(service, order, Reason.ROUTE_NOT_FOUND, message))
        elif not matches:
            message = f"HTTPRouteGroup {order.route.group} has no usable match {wanted!r}".rstrip(" '")
            findings.append(_warn(service, order, Reason.MATCH_NOT_FOUND, message))
        if not matches:
            return None
    source = None
    if order.source is not None:
        source = ServiceIdentity(world.trust_domain, order.source.namespace, order.source.name).uri
    return RateLimit(
        service=str(service.name),
        text=order.text,
        what=order.what,
        ports=frozenset(),
        count=order.count,
        seconds=order.seconds,
        burst=order.burst,
        per_client=order.per_client,
        source=source,
        matches=matches,
    )


def _warn(service: Service, order: RateOrder, reason: Reason, message: str) -> Finding:
    text = f"{order.text!r}: {message}; this limit has no effect"
    return Finding(service_ref(service.name), Severity.WARNING, reason, text, _field(order.what))


def _field(what: Limited) -> str:
    annotation = RATE_LIMIT_ANNOTATION if what is Limited.REQUESTS else CONNECTION_RATE_LIMIT_ANNOTATION
    return f"metadata.annotations.{annotation}"


def _pointless(service: Service) -> Iterator[Finding]:
    """Limits of what no port of the Service can see."""
    spoken = {port.protocol for port in counted_ports(service) if port.transport == TCP}
    for what, blind, advice in (
        (Limited.REQUESTS, _OPAQUE, f"use {CONNECTION_RATE_LIMIT_ANNOTATION}, or declare the port as http"),
        (Limited.CONNECTIONS, _HTTP, f"requests are limited by {RATE_LIMIT_ANNOTATION}"),
    ):
        if any(order.what is what for order in service.limits.rates) and spoken <= blind:
            listed = ", ".join(sorted(spoken)) or "none for TCP"
            message = f"no port of the Service carries what counts as {what} (its ports: {listed}); {advice}"
            yield Finding(
                service_ref(service.name), Severity.WARNING, Reason.INVALID_LIMIT, message, _field(what)
            )
