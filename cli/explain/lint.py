"""Manifests → remarks. Pure.

Most of them are what the controller itself would say of these objects (`compile`'s findings); here
they meet the files, and what is only worth saying before anything runs is added: dangling references
weigh more where the referred-to kind is at hand, patterns that other meshes read differently, rules
that nothing can meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from cli.explain.documents import Place
from cli.explain.manifests import Imagined, Manifests, imagine, place_of
from cli.explain.patterns import (
    covered,
    impossible_path,
    no_value_meets,
    path_difference,
    value_difference,
)
from cli.explain.regular import Reading
from cli.explain.remarks import Check, Level, Remark
from controller.compile.compiler import compile as compile_world
from controller.compile.snapshot import Snapshot
from controller.compile.world import Service, World
from smi.api.hub import HTTPMatch, HTTPRouteGroup, IdentityBinding, Subject, TCPRoute, UDPRoute
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.lower import SERVICE_ACCOUNT
from smi.names import NamespacedName
from smi.policy.match import PatternError, check_pattern, compile_matches
from smi.policy.snapshot import Destination, Grant, Inbound, Protocol, Regex, RouteMatch, Split

_LEVELS: Final = {Severity.ERROR: Level.ERROR, Severity.WARNING: Level.WARNING, Severity.INFO: Level.NOTE}
_NO_EFFECT: Final = frozenset(
    {
        Reason.CONFLICTED,
        Reason.ROUTE_NOT_FOUND,
        Reason.MATCH_NOT_FOUND,
        Reason.IDENTITY_NOT_FOUND,
        Reason.PORT_MISMATCH,
        Reason.SERVICE_PORT_AS_POD_PORT,
    }
)
"""In a cluster what is missing may come yet, so the controller only warns; manifests are all there is."""
_SERVICES: Final = frozenset({Reason.BACKEND_NOT_FOUND, Reason.ROOT_NOT_FOUND})
_OPAQUE: Final = frozenset({Protocol.TCP, Protocol.TLS, Protocol.UDP})

Said = tuple[ObjectRef, Level, str, str, str]
"""(object, level, rule, message, field)."""


def lint(manifests: Manifests) -> tuple[Remark, ...]:
    """Everything there is to say of these manifests, by file and line."""
    imagined = imagine(manifests)
    snapshot = compile_world(imagined.world)
    remarks = {Remark(one.place, Level.ERROR, Check.NOT_YAML, one.message) for one in manifests.complaints}
    for ref, overwritten, counts in imagined.duplicates:
        message = f"{ref} is written again at {counts.place('metadata.name')}, which overwrites this one"
        place = overwritten.place("metadata.name")
        remarks.add(Remark(place, Level.ERROR, Check.DUPLICATE, message, str(ref), "metadata.name"))
    for said in _everything(imagined, snapshot):
        ref, level, rule, message, field = said
        subject = imagined.stand_ins.get(ref, ref)
        place = place_of(imagined, ref, field) or Place("<manifests>")
        remarks.add(Remark(place, level, rule, message, str(subject), field))
    return tuple(sorted(remarks))


def _everything(imagined: Imagined, snapshot: Snapshot) -> Iterator[Said]:
    world = imagined.world
    yield from (_said(finding, world) for finding in snapshot.findings)
    for ref, why in imagined.refused:
        yield ref, Level.ERROR, Check.NOT_INJECTABLE, why, "metadata.name"
    checks: tuple[Callable[[World, Snapshot], Iterator[Said]], ...] = (
        _patterns,
        _unreachable_splits,
        _unreachable_grants,
        _unused,
        _ports,
    )
    for check in checks:
        yield from check(world, snapshot)
    yield from _accounts(imagined)


def _said(finding: Finding, world: World) -> Said:
    level = _LEVELS[finding.severity]
    if finding.reason in _NO_EFFECT:
        level = Level.ERROR
    elif finding.reason in _SERVICES:
        here = any(name.namespace == finding.ref.namespace for name in world.services)
        level = Level.ERROR if here else Level.NOTE  # Services may well be kept elsewhere
    # Where the field is said apart, the message need not begin with it.
    message = finding.message.removeprefix(f"{finding.field}: ")
    return finding.ref, level, finding.reason, message, finding.field


# --- patterns -----------------------------------------------------------------------------------


def _patterns(world: World, _: Snapshot) -> Iterator[Said]:
    for name, group in world.route_groups.items():
        own = world.namespaces.get(name.namespace)
        regex = (own.regex if own else None) or world.settings.regex
        for index, match in enumerate(group.matches):
            where = f"spec.matches[{index}]"
            if match.path is not None and _fine(match.path):
                yield from _path(group.ref, match, match.path, f"{where}.pathRegex", regex)
            yield from _headers(group.ref, match, where)


def _headers(ref: ObjectRef, match: HTTPMatch, where: str) -> Iterator[Said]:
    of_name: dict[str, list[str]] = {}
    for header, pattern in match.headers:
        if not _fine(pattern):
            continue
        filters = of_name.setdefault(header, [])
        filters.append(pattern)
        if no_value_meets(filters):
            others = " and the filters of that header before it" * (len(filters) > 1)
            message = f"no value meets filter {header}: {pattern!r} of match {match.name!r}{others}"
            yield ref, Level.WARNING, Check.UNREACHABLE, message, f"{where}.headers.{header}"
            continue
        difference = value_difference(pattern)
        if difference is not None:
            message = (
                f"header filter {header}: {pattern!r} in match {match.name!r} is searched for in the value "
                f"here{_for_example(difference.example, 'meets it')}; meshes that hold it against the whole "
                "value see another: write '^…$', or '.*' at both ends"
            )
            yield ref, Level.WARNING, Check.PEERS_DIFFER, message, f"{where}.headers.{header}"


def _for_example(example: str, said: str) -> str:
    return f" ({example!r} {said})" if example else ""


def _path(ref: ObjectRef, match: HTTPMatch, pattern: str, where: str, regex: Regex) -> Iterator[Said]:
    impossible = impossible_path(pattern, Reading.WHOLE if regex is Regex.FULL else Reading.BEGINNING)
    difference = None if impossible else path_difference(pattern)
    if impossible:
        message = f"no path meets {pattern!r} of match {match.name!r}: {impossible}"
        yield ref, Level.WARNING, Check.UNREACHABLE, message, where
    elif difference is not None:
        whole = "it is held against the whole path"
        beginning = "every path that begins with a match meets it"
        beginning += _for_example(difference.example, "too")
        here, there = (whole, beginning) if regex is Regex.FULL else (beginning, whole)
        peers = "by the specification" if regex is Regex.FULL else "in Open Service Mesh"
        message = (
            f"{pattern!r} of match {match.name!r} has no end: here {here}, {peers} {there}; "
            "end it in '$' or '.*' to mean the same everywhere"
        )
        yield ref, Level.WARNING, Check.PEERS_DIFFER, message, where


def _fine(pattern: str) -> bool:
    try:
        check_pattern(pattern, "")
    except PatternError:
        return False  # the compiler says so
    return True


# --- what nothing can meet ------------------------------------------------------------------------


def _unreachable_splits(world: World, snapshot: Snapshot) -> Iterator[Said]:
    by_root: dict[str, list[Destination]] = {}
    for destination in snapshot.destinations.values():
        if destination.splits:
            by_root.setdefault(destination.service or "", []).append(destination)
    for root, destinations in by_root.items():
        splits = destinations[0].splits  # the same on every port of a root
        protocols = {destination.protocol for destination in destinations}
        for split in splits:
            ref = world.splits[NamespacedName.parse(split.name)].ref
            if split.matches and protocols <= _OPAQUE:
                message = (
                    f"every port of root Service {root} is opaque ({', '.join(sorted(protocols))}), "
                    "so no request is seen that could meet its matches"
                )
                yield ref, Level.WARNING, Check.UNREACHABLE, message, "spec.matches"
        for match, split, takers in _never_taken(splits):
            ref = world.splits[NamespacedName.parse(split.name)].ref
            message = (
                f"match {match.name!r} of HTTPRouteGroup {match.group} takes nothing here: every request "
                f"that meets it goes to {_named(takers)}, which comes first (S11)"
            )
            yield ref, Level.WARNING, Check.UNREACHABLE, message, "spec.matches"


def _never_taken(splits: Sequence[Split]) -> Iterator[tuple[RouteMatch, Split, tuple[str, ...]]]:
    """Matches that others, which rank before them, take everything from: (match, its split, those splits)."""
    ranked = sorted(
        (-compiled.filters, -compiled.literal, index, place, compiled.route)
        for index, split in enumerate(splits)
        for place, compiled in enumerate(compile_matches(split.matches or (), []))
    )
    for number, (_, _, index, _, match) in enumerate(ranked):
        before = [(splits[other].name, one) for _, _, other, _, one in ranked[:number] if other != index]
        alone = next((name for name, one in before if covered(match, [one])), None)
        if alone is not None:
            yield match, splits[index], (alone,)
        elif covered(match, [one for _, one in before]):
            yield match, splits[index], tuple(dict.fromkeys(name for name, _ in before))


def _named(splits: Sequence[str]) -> str:
    return f"TrafficSplit {splits[0]}" if len(splits) == 1 else f"one of TrafficSplits {', '.join(splits)}"


def _unreachable_grants(world: World, snapshot: Snapshot) -> Iterator[Said]:
    """HTTP rules for pods all of whose ports, as far as the rule goes, are declared as something else."""
    for target, pods in _granted(snapshot).items():
        ports = {
            port.port: port.protocol
            for inbound, grant in pods
            if grant.http is not None
            for port in inbound.ports
            if _lets_through(grant, port.port) and port.protocol is not Protocol.UDP
        }
        if ports and set(ports.values()) <= _OPAQUE:
            listed = ", ".join(f"{number} ({protocol})" for number, protocol in sorted(ports.items()))
            message = (
                f"its HTTP rules never apply: of its destination's ports only {listed} could be meant, and "
                "what is declared so is not looked into; declare the port as http, or allow it by a TCPRoute"
            )
            ref = world.targets[target].ref
            yield ref, Level.WARNING, Check.UNREACHABLE, message, "spec.rules"


def _lets_through(grant: Grant, port: int) -> bool:
    return (grant.port is None or grant.port == port) and (grant.tcp is None or port in grant.tcp)


def _granted(snapshot: Snapshot) -> Mapping[NamespacedName, list[tuple[Inbound, Grant]]]:
    found: dict[NamespacedName, list[tuple[Inbound, Grant]]] = {}
    for inbound in snapshot.inbound.values():
        for grant in inbound.grants:
            found.setdefault(NamespacedName.parse(grant.target), []).append((inbound, grant))
    return found


def _unused(world: World, snapshot: Snapshot) -> Iterator[Said]:
    users = snapshot.made_from.policy.users
    objects: tuple[HTTPRouteGroup | TCPRoute | UDPRoute | IdentityBinding, ...] = (
        *world.route_groups.values(),
        *world.tcp_routes.values(),
        *world.udp_routes.values(),
        *world.identity_bindings.values(),
    )
    for known in objects:
        if known.ref not in users:
            by = "TrafficTarget"
            if isinstance(known, HTTPRouteGroup):
                by = "TrafficTarget, TrafficSplit or rate limit of a Service"
            yield known.ref, Level.NOTE, Check.UNUSED, f"no {by} refers to it", "metadata.name"
    for name, group in world.route_groups.items():
        wanted = _wanted_matches(world, name)
        if group.ref in users and wanted is not None:
            for index, match in enumerate(group.matches):
                if match.name not in wanted:
                    message = f"no rule names match {match.name!r}"
                    yield group.ref, Level.NOTE, Check.UNUSED, message, f"spec.matches[{index}].name"


def _wanted_matches(world: World, group: NamespacedName) -> set[str] | None:
    """The matches of a group that some rule names; None where one means all of them."""
    wanted: set[str] = set()
    for split in world.splits.values():
        if split.namespace == group.namespace and any(ref.name == group.name for ref in split.matches or ()):
            return None
    for service in world.services.values():
        for order in service.limits.rates:
            if order.route is not None and order.route.group == group:
                if not order.route.match:
                    return None
                wanted.add(order.route.match)
    for target in world.targets.values():
        for rule in target.rules:
            if (rule.kind, target.namespace, rule.name) == ("HTTPRouteGroup", group.namespace, group.name):
                if rule.matches is None:
                    return None
                wanted.update(rule.matches)
    return wanted


# --- ports and accounts ---------------------------------------------------------------------------


def _ports(world: World, snapshot: Snapshot) -> Iterator[Said]:
    known = {
        finding.ref for finding in snapshot.findings if finding.reason is Reason.SERVICE_PORT_AS_POD_PORT
    }
    for target, pods in _granted(snapshot).items():
        ref = world.targets[target].ref
        declared = {port.port for inbound, _ in pods for port in inbound.ports}
        grant = pods[0][1]
        wanted = {port for ports in (grant.tcp, grant.udp) if ports for port in ports.ports}
        wanted |= {grant.port} if grant.port is not None else set()
        missing = sorted(wanted - declared)
        if declared and missing and ref not in known:
            message = (
                f"no destination pod declares port {', '.join(map(str, missing))}; "
                f"they declare {', '.join(map(str, sorted(declared)))}"
            )
            yield ref, Level.WARNING, Check.PORT_NOT_DECLARED, message, "spec.rules"
    for service in world.services.values():
        yield from _target_ports(service, world)


def _target_ports(service: Service, world: World) -> Iterator[Said]:
    """Ports of a Service that name a container port which none of its pods has."""
    selector = set(service.selector)
    pods = [
        pod
        for pod in world.pods.values()
        if selector and pod.name.namespace == service.name.namespace and selector <= set(pod.labels)
    ]
    for port in service.ports:
        named = isinstance(port.target, str) and pods
        if named and not any(port.target in dict(pod.named_ports) for pod in pods):
            ref = ObjectRef("", "Service", service.name.namespace, service.name.name)
            message = f"port {port.port}: no pod of this Service has a container port named {port.target!r}"
            yield ref, Level.ERROR, Check.PORT_NOT_DECLARED, message, "spec.ports"


def _accounts(imagined: Imagined) -> Iterator[Said]:
    """Service accounts that nobody has, in namespaces of which the manifests hold accounts or pods."""
    world = imagined.world
    known = {NamespacedName(pod.name.namespace, pod.service_account) for pod in world.pods.values()}
    known |= {
        NamespacedName(ref.namespace, ref.name) for ref in imagined.places if ref.kind == SERVICE_ACCOUNT
    }
    namespaces = {name.namespace for name in known}
    for target in world.targets.values():
        subjects: list[tuple[str, Subject]] = [("spec.destination", target.destination)]
        subjects += [(f"spec.sources[{index}]", source) for index, source in enumerate(target.sources)]
        for where, subject in subjects:
            name = NamespacedName(subject.namespace, subject.name)
            known_here = subject.kind == SERVICE_ACCOUNT and subject.namespace in namespaces
            if known_here and name not in known and subject.name != "default":
                message = f"there is no ServiceAccount {name}, and no pod runs as it"
                yield target.ref, Level.WARNING, Check.ACCOUNT_NOT_FOUND, message, f"{where}.name"
