"""Route objects, each lowered once for all the TrafficTargets and TrafficSplits that refer to it."""

from __future__ import annotations

from dataclasses import dataclass

from controller.compile.world import World
from smi.findings import Finding
from smi.lower import PortRoutes, RouteGroups, lower_route_group, lower_tcp_route, lower_udp_route
from smi.policy.snapshot import Regex


@dataclass(frozen=True, slots=True)
class Routes:
    groups: RouteGroups
    tcp: PortRoutes
    udp: PortRoutes
    findings: tuple[Finding, ...]


def compile_routes(world: World) -> Routes:
    """Lower every route object. How a pattern is anchored is its namespace's choice (S16)."""
    findings: list[Finding] = []
    groups, tcp, udp = {}, {}, {}
    for name, group in world.route_groups.items():
        groups[name], said = lower_route_group(group, _regex(world, name.namespace))
        findings.extend(said)
    for name, tcp_route in world.tcp_routes.items():
        tcp[name], said = lower_tcp_route(tcp_route)
        findings.extend(said)
    for name, udp_route in world.udp_routes.items():
        udp[name], said = lower_udp_route(udp_route)
        findings.extend(said)
    return Routes(groups, tcp, udp, tuple(findings))


def _regex(world: World, namespace: str) -> Regex:
    own = world.namespaces.get(namespace)
    return (own.regex if own else None) or world.settings.regex
