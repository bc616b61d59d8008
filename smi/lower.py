"""One SMI object → a fragment of policy, and what there is to say about it.

Each `lower_*` judges one hub value by itself and, through the mappings it is handed, against the
route objects it refers to. It never raises for what an object holds: a part that cannot be used is
left out in the way that grants or routes least, with a Finding (R2, R3). Services, pods and other
splits are the compiler's business; `validate` is the same judgement for admission.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from smi.api import Rejected, parse
from smi.api.hub import (
    HTTPMatch,
    HTTPRouteGroup,
    IdentityBinding,
    RouteRef,
    SmiObject,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.names import (
    DEFAULT_CLUSTER_DOMAIN,
    DEFAULT_TRUST_DOMAIN,
    FALLBACK_ANNOTATION,
    NamespacedName,
    ServiceIdentity,
)
from smi.policy.match import PatternError, check_pattern
from smi.policy.snapshot import PortSet, Regex, RouteMatch

MAX_MATCHES: Final = 1000
"""Matches of one HTTPRouteGroup that count (S18)."""
MAX_HEADER_FILTERS: Final = 32
"""Header filters of one match (S18)."""

RouteGroups = Mapping[NamespacedName, tuple[RouteMatch, ...]]
"""What `lower_route_group` made of each HTTPRouteGroup that exists."""
PortRoutes = Mapping[NamespacedName, PortSet]
"""What `lower_tcp_route` or `lower_udp_route` made of each route that exists."""
Findings = tuple[Finding, ...]

SERVICE_ACCOUNT: Final = "ServiceAccount"
IDENTITY_BINDING: Final = "IdentityBinding"
_SUBJECT_KINDS: Final = frozenset({SERVICE_ACCOUNT, IDENTITY_BINDING})

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""A method or field name (RFC 9110 §5.6.2)."""
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_SPIFFE_SEGMENT: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]+", re.ASCII)
"""SPIFFE-ID §2.1 and §2.2."""


@dataclass(frozen=True, slots=True)
class LoweredSplit:
    """A TrafficSplit with its names resolved, before it meets Services (S5, S6) and siblings (S11)."""

    ref: ObjectRef
    name: NamespacedName
    created: str
    root: NamespacedName
    backends: tuple[tuple[NamespacedName, int], ...]
    """(Service, weight), one per backend as written."""
    matches: tuple[RouteMatch, ...] | None
    """None = catch-all; empty = matches nothing (R3)."""
    fallback_root: bool


@dataclass(frozen=True, slots=True)
class LoweredTarget:
    """A TrafficTarget that grants something, before its subjects meet pods.

    `port`, `tcp`, `udp` and `http` mean what they mean in `smi.policy.snapshot.Grant`.
    """

    ref: ObjectRef
    name: NamespacedName
    destination: Subject
    sources: tuple[Subject, ...]
    port: int | None
    tcp: PortSet | None
    udp: PortSet | None
    http: tuple[RouteMatch, ...] | None


@dataclass(frozen=True, slots=True)
class LoweredBinding:
    """Who an IdentityBinding stands for: these identities, OR the pods of its namespace with these labels."""

    ref: ObjectRef
    name: NamespacedName
    identities: frozenset[str]
    """SPIFFE ids."""
    pod_labels: tuple[tuple[str, str], ...] | None
    """None = no pods by label; an empty tuple selects all pods of the namespace."""


@dataclass(slots=True)
class _Notes:
    """Findings about one object, as they turn up."""

    ref: ObjectRef
    findings: list[Finding] = field(default_factory=list)

    def error(self, reason: Reason, where: str, message: str) -> None:
        self.findings.append(Finding(self.ref, Severity.ERROR, reason, message, where))

    def warn(self, reason: Reason, where: str, message: str) -> None:
        self.findings.append(Finding(self.ref, Severity.WARNING, reason, message, where))


# --- specs ------------------------------------------------------------------------------------


def lower_route_group(
    group: HTTPRouteGroup, regex: Regex = Regex.SPEC
) -> tuple[tuple[RouteMatch, ...], Findings]:
    """The matches of a group that can be used (S16-S18, R3, R7), in the order written."""
    notes = _Notes(group.ref)
    if len(group.matches) > MAX_MATCHES:
        message = f"{len(group.matches)} matches, only the first {MAX_MATCHES} count; split the group"
        notes.error(Reason.INVALID, "spec.matches", message)
    lowered = []
    for index, match in enumerate(group.matches[:MAX_MATCHES]):
        where = f"spec.matches[{index}]"
        if _usable(match, where, notes):
            lowered.append(_route_match(str(group.key), match, regex, where, notes))
    return tuple(lowered), tuple(notes.findings)


def _usable(match: HTTPMatch, where: str, notes: _Notes) -> bool:
    if len(match.headers) > MAX_HEADER_FILTERS:
        message = f"{len(match.headers)} header filters, at most {MAX_HEADER_FILTERS} are allowed"
        notes.error(Reason.INVALID, f"{where}.headers", message)
        return False
    patterns = [(f"headers.{name}", pattern) for name, pattern in match.headers]
    if match.path is not None:
        patterns.insert(0, ("pathRegex", match.path))
    fine = True
    for place, pattern in patterns:
        try:
            check_pattern(pattern, place)
        except PatternError as error:
            fine = False
            notes.error(Reason.INVALID_PATTERN, f"{where}.{place}", f"{error}; match {match.name!r} is off")
    return fine


def _route_match(group: str, match: HTTPMatch, regex: Regex, where: str, notes: _Notes) -> RouteMatch:
    return RouteMatch(
        group=group,
        name=match.name,
        path=match.path,
        methods=_methods(match.methods, f"{where}.methods", notes),
        headers=tuple(sorted((name.lower(), pattern) for name, pattern in match.headers)),
        regex=regex,
    )


def _methods(methods: tuple[str, ...], where: str, notes: _Notes) -> frozenset[str]:
    """Upper-case methods; empty = any (S17). One that no request can have stays, and matches none."""
    if "*" in methods:
        return frozenset()
    for method in methods:
        if not _TOKEN.fullmatch(method):
            notes.warn(
                Reason.INVALID, where, f"method {method!r} is not an HTTP method and matches no request"
            )
        elif method != method.upper():
            notes.warn(Reason.METHOD_CASE, where, f"method {method!r} is read as {method.upper()!r}")
    return frozenset(method.upper() for method in methods)


def lower_tcp_route(route: TCPRoute) -> tuple[PortSet, Findings]:
    """The ports of a TCPRoute (S24)."""
    return _port_set(route.ports), ()


def lower_udp_route(route: UDPRoute) -> tuple[PortSet, Findings]:
    """The ports of a UDPRoute (S24)."""
    return _port_set(route.ports), ()


def _port_set(ports: tuple[int, ...]) -> PortSet:
    return PortSet(every=not ports, ports=frozenset(ports))


# --- access -----------------------------------------------------------------------------------


def lower_traffic_target(
    target: TrafficTarget, route_groups: RouteGroups, tcp_routes: PortRoutes, udp_routes: PortRoutes
) -> tuple[LoweredTarget | None, Findings]:
    """What a TrafficTarget grants (S21-S24, R1, R2, R14); None where it grants nothing at all."""
    notes = _Notes(target.ref)
    allowed = _check_destination(target, notes)
    sources = _known_sources(target, notes)
    if not target.rules:
        notes.error(Reason.NO_RULES, "spec.rules", "it has no rules, so it allows nothing")
    rules = _Rules(target, notes)
    http = rules.http(route_groups)
    tcp, udp = rules.ports("TCPRoute", tcp_routes), rules.ports("UDPRoute", udp_routes)
    if not (allowed and sources and target.rules):
        return None, tuple(notes.findings)
    lowered = LoweredTarget(target.ref, target.key, target.destination, sources, target.port, tcp, udp, http)
    return lowered, tuple(notes.findings)


def _check_destination(target: TrafficTarget, notes: _Notes) -> bool:
    destination = target.destination
    if destination.kind not in _SUBJECT_KINDS:
        message = f"destination kind {destination.kind!r} is not one of ServiceAccount, IdentityBinding"
        notes.error(Reason.UNKNOWN_KIND, "spec.destination.kind", message)
        return False
    if destination.namespace != target.namespace:
        message = (
            f"the destination is in namespace {destination.namespace!r}, the TrafficTarget in "
            f"{target.namespace!r}, so it grants nothing; create it in {destination.namespace!r}"
        )
        notes.error(Reason.WRONG_NAMESPACE, "spec.destination.namespace", message)
        return False
    return True


def _known_sources(target: TrafficTarget, notes: _Notes) -> tuple[Subject, ...]:
    if not target.sources:
        notes.error(Reason.NO_SOURCES, "spec.sources", "it has no sources, so it allows nobody")
    known = []
    for index, source in enumerate(target.sources):
        if source.kind in _SUBJECT_KINDS:
            known.append(source)
        else:
            message = (
                f"source kind {source.kind!r} is not one of ServiceAccount, IdentityBinding; it allows nobody"
            )
            notes.error(Reason.UNKNOWN_KIND, f"spec.sources[{index}].kind", message)
    return tuple(known)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one target, asked kind by kind: OR inside a kind, AND between L4 and HTTP (S21)."""

    target: TrafficTarget
    notes: _Notes

    def http(self, groups: RouteGroups) -> tuple[RouteMatch, ...] | None:
        """All matches named; None if no rule is about HTTP.

        A kind this mesh does not know counts as an HTTP rule that matches nothing: whatever it
        would have narrowed, it must not widen (R2).
        """
        present, matches = False, list[RouteMatch]()
        for index, rule in enumerate(self.target.rules):
            where = f"spec.rules[{index}]"
            if rule.kind == "HTTPRouteGroup":
                present = True
                matches += self._matches(rule, where, groups)
            elif rule.kind not in ("TCPRoute", "UDPRoute"):
                present = True
                message = f"rule kind {rule.kind!r} is not one of HTTPRouteGroup, TCPRoute, UDPRoute"
                self.notes.error(Reason.UNKNOWN_KIND, f"{where}.kind", message)
        return tuple(dict.fromkeys(matches)) if present else None

    def ports(self, kind: str, routes: PortRoutes) -> PortSet | None:
        """The ports of all rules of a kind; None if there is no such rule."""
        present, every, ports = False, False, set[int]()
        for index, rule in enumerate(self.target.rules):
            if rule.kind == kind:
                present = True
                found = routes.get(NamespacedName(self.target.namespace, rule.name))
                if found is None:
                    self._missing(rule, f"spec.rules[{index}]")
                else:
                    every |= found.every
                    ports |= found.ports
        return PortSet(every, frozenset(ports)) if present else None

    def _matches(self, rule: RouteRef, where: str, groups: RouteGroups) -> Iterable[RouteMatch]:
        found = groups.get(NamespacedName(self.target.namespace, rule.name))
        if found is None:
            self._missing(rule, where)
            return ()
        if rule.matches is None:
            return found
        existing = {match.name for match in found}
        for index, name in enumerate(rule.matches):
            if name not in existing:
                message = f"HTTPRouteGroup {rule.name} has no usable match {name!r}"
                self.notes.warn(Reason.MATCH_NOT_FOUND, f"{where}.matches[{index}]", message)
        return (match for match in found if match.name in rule.matches)

    def _missing(self, rule: RouteRef, where: str) -> None:
        message = f"{rule.kind} {self.target.namespace}/{rule.name} does not exist; the rule matches nothing"
        self.notes.warn(Reason.ROUTE_NOT_FOUND, f"{where}.name", message)


def lower_identity_binding(
    binding: IdentityBinding, trust_domain: str = DEFAULT_TRUST_DOMAIN
) -> tuple[LoweredBinding, Findings]:
    """Who an IdentityBinding stands for (R11)."""
    notes = _Notes(binding.ref)
    identities = set()
    if binding.service_account is not None:
        identities.add(ServiceIdentity(trust_domain, binding.namespace, binding.service_account).uri)
    for index, written in enumerate(binding.spiffe_identities):
        where = f"spec.schemes.spiffeIdentities[{index}]"
        identity = _spiffe_id(written, binding.namespace, trust_domain, where, notes)
        if identity is not None:
            identities.add(identity)
    if binding.pod_labels is not None and binding.service_account is not None:
        message = "podLabelSelector and serviceAccount exclude each other in the spec; here both count"
        notes.warn(Reason.SCHEMES_OVERLAP, "spec.schemes", message)
    if not identities and binding.pod_labels is None and not notes.findings:
        notes.error(Reason.INVALID, "spec.schemes", "it has no schemes, so it stands for nobody")
    lowered = LoweredBinding(binding.ref, binding.key, frozenset(identities), binding.pod_labels)
    return lowered, tuple(notes.findings)


def _spiffe_id(written: str, namespace: str, own: str, where: str, notes: _Notes) -> str | None:
    """The SPIFFE id in its URI form; None, with a finding, where the binding may not name it."""
    trust_domain, _, path = written.removeprefix("spiffe://").partition("/")
    trust_domain = trust_domain.lower()
    segments = path.split("/")
    if not _TRUST_DOMAIN.fullmatch(trust_domain) or not all(map(_SPIFFE_SEGMENT.fullmatch, segments)):
        notes.error(Reason.INVALID, where, f"{written!r} is not a SPIFFE id (trust domain/path)")
        return None
    if trust_domain == own.lower() and (len(segments) != 4 or segments[:3] != ["ns", namespace, "sa"]):
        message = f"{written!r} belongs to our own trust domain, but not to namespace {namespace!r}"
        notes.error(Reason.FOREIGN_IDENTITY, where, message)
        return None
    return f"spiffe://{trust_domain}/{path}"


# --- split ------------------------------------------------------------------------------------


def lower_traffic_split(
    split: TrafficSplit, route_groups: RouteGroups, cluster_domain: str = DEFAULT_CLUSTER_DOMAIN
) -> tuple[LoweredSplit | None, Findings]:
    """What a TrafficSplit says by itself (S4, S8-S10, R3, R5, R13).

    None where a name in it cannot be used: the split is as if absent (R3).
    """
    notes = _Notes(split.ref)
    root = _own_service(split.service, split.namespace, cluster_domain, "spec.service", notes)
    backends = _backends(split, root, cluster_domain, notes)
    matches = None if split.matches is None else _split_matches(split, split.matches, route_groups, notes)
    fallback = _fallback_root(split, notes)
    if not any(weight for _, weight in backends):
        what = "all weights are 0" if backends else "there is no backend"
        effect = "the root gets all calls" if fallback else "calls get 503"
        notes.warn(Reason.ALL_WEIGHTS_ZERO, "spec.backends", f"{what}, so {effect}")
    if root is None or len(backends) < len(split.backends):
        return None, tuple(notes.findings)
    lowered = LoweredSplit(split.ref, split.key, split.created, root, backends, matches, fallback)
    return lowered, tuple(notes.findings)


def _backends(
    split: TrafficSplit, root: NamespacedName | None, cluster_domain: str, notes: _Notes
) -> tuple[tuple[NamespacedName, int], ...]:
    backends = []
    for index, backend in enumerate(split.backends):
        where = f"spec.backends[{index}].service"
        name = _own_service(backend.service, split.namespace, cluster_domain, where, notes)
        if name is None:
            continue
        if name == root:
            message = f"{backend.service!r} is the root itself: it means the root's own endpoints"
            notes.warn(Reason.ROOT_AMONG_BACKENDS, where, message)
        backends.append((name, backend.weight))
    return tuple(backends)


def _own_service(
    text: str, namespace: str, cluster_domain: str, where: str, notes: _Notes
) -> NamespacedName | None:
    name = service_name(text, namespace, cluster_domain)
    if name is None:
        notes.error(Reason.INVALID, where, f"{text!r} is not the name of a Service")
    elif name.namespace != namespace:
        message = f"{text!r} is in namespace {name.namespace!r}; only Services of {namespace!r} can be named"
        notes.error(Reason.INVALID, where, message)
    else:
        return name
    return None


def service_name(text: str, namespace: str, cluster_domain: str) -> NamespacedName | None:
    """The Service that `svc`, `svc.ns`, `svc.ns.svc` or `svc.ns.svc.<domain>` names (S4).

    Case and one trailing dot mean nothing. None for anything else.
    """
    labels = text.lower().removesuffix(".").split(".")
    if not all(labels) or "/" in text or ":" in text:
        return None
    if labels[2:] not in ([], ["svc"], ["svc", *cluster_domain.lower().split(".")]):
        return None
    return NamespacedName(labels[1] if len(labels) > 1 else namespace, labels[0])


def _split_matches(
    split: TrafficSplit, references: tuple[RouteRef, ...], groups: RouteGroups, notes: _Notes
) -> tuple[RouteMatch, ...]:
    """All matches of all groups named: several merge into one (S9); what is missing matches nothing (R3)."""
    matches: list[RouteMatch] = []
    for index, reference in enumerate(references):
        where = f"spec.matches[{index}]"
        if reference.kind != "HTTPRouteGroup":
            message = f"kind {reference.kind!r} is not HTTPRouteGroup; it matches nothing"
            notes.error(Reason.UNKNOWN_KIND, f"{where}.kind", message)
            continue
        found = groups.get(NamespacedName(split.namespace, reference.name))
        if found is None:
            message = f"HTTPRouteGroup {split.namespace}/{reference.name} does not exist; it matches nothing"
            notes.warn(Reason.ROUTE_NOT_FOUND, f"{where}.name", message)
        else:
            matches += found
    return tuple(dict.fromkeys(matches))


def _fallback_root(split: TrafficSplit, notes: _Notes) -> bool:
    """S8, R5: the annotation that sends calls to the root when there is nobody else."""
    value = split.annotations.get(FALLBACK_ANNOTATION)
    if value not in (None, "root"):
        where = f"metadata.annotations.{FALLBACK_ANNOTATION}"
        notes.warn(Reason.UNKNOWN_SETTING, where, f"fallback {value!r} is not 'root'; there is no fallback")
    return value == "root"


# --- admission --------------------------------------------------------------------------------

_ADMISSION_REFUSES: Final = frozenset(
    {Reason.INVALID, Reason.INVALID_WEIGHT, Reason.INVALID_PATTERN, Reason.FOREIGN_IDENTITY}
)
"""What no later object can mend (S3, S18, R11). What S22 and S23 call a matter of status is admitted."""
_NEEDS_THE_CLUSTER: Final = frozenset({Reason.ROUTE_NOT_FOUND, Reason.MATCH_NOT_FOUND})


def validate(
    obj: Mapping[str, Any],
    *,
    trust_domain: str = DEFAULT_TRUST_DOMAIN,
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN,
) -> Findings:
    """What admission has to say about an SMI object of any version: ERROR findings refuse it.

    Judges the object alone; references are not looked up.
    """
    outcome = parse(obj)
    if isinstance(outcome, Rejected):
        return outcome.findings
    findings = outcome.findings + _judge(outcome.value, trust_domain, cluster_domain)
    return tuple(
        finding if finding.reason in _ADMISSION_REFUSES else replace(finding, severity=Severity.WARNING)
        for finding in findings
        if finding.reason not in _NEEDS_THE_CLUSTER
    )


def _judge(value: SmiObject, trust_domain: str, cluster_domain: str) -> Findings:
    match value:
        case HTTPRouteGroup():
            return lower_route_group(value)[1]
        case TCPRoute():
            return lower_tcp_route(value)[1]
        case UDPRoute():
            return lower_udp_route(value)[1]
        case TrafficTarget():
            return lower_traffic_target(value, {}, {}, {})[1]
        case IdentityBinding():
            return lower_identity_binding(value, trust_domain)[1]
        case TrafficSplit():
            return lower_traffic_split(value, {}, cluster_domain)[1]
