"""Why a request is let through or not, and where it goes: the proxies' own functions, asked one question.

Pure. The caller's side asks `slicing.resolve` and `smi.policy.split` as the caller's sidecar does, the
destination's side `dataplane.core.inbound` with the policy that very pod enforces. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from ipaddress import IPv4Address
from typing import Final

from controller.compile.compiler import compile as compile_world
from controller.compile.endpoints import identity_of
from controller.compile.slicing import cluster_of, resolve
from controller.compile.snapshot import Snapshot
from controller.compile.world import Pod, Service, World
from dataplane.core.inbound import admit_connection, admit_flow, admit_request, spoken_as
from dataplane.core.rates import Rates
from smi.findings import Finding, ObjectRef, Severity
from smi.lower import service_name
from smi.names import EXCLUDE_OUTBOUND_ANNOTATION, UDP_KEY, NamespacedName, ServiceIdentity
from smi.policy.access import AccessTable, Denial, DenialReason, Peer, Permit, compile_access
from smi.policy.match import Request, compile_matches
from smi.policy.snapshot import (
    CircuitBreaker,
    Destination,
    Endpoint,
    Grant,
    Inbound,
    Mode,
    Protocol,
    RateLimit,
    RouteMatch,
    Split,
)
from smi.policy.split import Via, choose, compile_destination, takers

TCP: Final = "tcp"
UDP: Final = "udp"
HTTP: Final = "http"
_FIRST_ADDRESS: Final = IPv4Address("198.19.0.0")
_DNS: Final = 53
"""UDP port that no redirect takes (`dataplane.intercept`)."""


@dataclass(frozen=True, slots=True)
class Interception:
    """What sidecars of this mesh take out of the network."""

    redirected: bool = True
    """False: apps are told to use them as HTTP proxies; then annotations exclude no outbound port."""
    udp: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants what of whom. `request` None: a connection or a UDP flow, without a look into it."""

    source: NamespacedName
    """A pod, a workload or a service account."""
    host: str
    """As the caller writes it: any name of a Service, an address, or a pod, workload or service account."""
    port: int
    request: Request | None = None
    udp: bool = False


@dataclass(frozen=True, slots=True)
class Miss:
    """One TrafficTarget that concerns the destination, and what keeps it from allowing the call."""

    target: NamespacedName
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the proxies of some pods say, all the same. `decision` None: they have no sidecar to say it."""

    pods: tuple[str, ...]
    port: int
    decision: Permit | Denial | None
    rules: tuple[str, ...] = ()
    """Of the TrafficTarget that allows it: the rules that take part (`spec.rules[0]`)."""
    match: str = ""
    """Of the HTTPRouteGroup whose match allows it: where that is (`spec.matches[1]`)."""
    misses: tuple[Miss, ...] = ()
    """The nearest first; also where a permissive namespace lets the call through."""
    limits: tuple[RateLimit, ...] = ()
    """The rate limits that each of these pods holds such calls to (R15)."""

    @property
    def passes(self) -> bool:
        return not isinstance(self.decision, Denial)


@dataclass(frozen=True, slots=True)
class Way:
    """One backend that may get the call."""

    service: str
    """`namespace/name`; empty for a single pod."""
    share: Fraction
    verdicts: tuple[Verdict, ...]
    breaker: CircuitBreaker | None = None
    """What the caller's sidecar may have under way to it (R16)."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A backend of the split that gets nothing, and why."""

    service: str
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer."""

    peer: Peer | None
    """The caller as the destination sees it; None for one without a sidecar."""
    seen: str
    """`http`, `tcp` or `udp`: as what the proxies see the call."""
    destination: Destination
    split: str = ""
    """`namespace/name` of the TrafficSplit that takes the call."""
    split_match: str = ""
    """`namespace/group/match` of the filter it meets; empty for a split of everything."""
    ways: tuple[Way, ...] = ()
    """None: there is nobody to send to, `trouble` says why."""
    left_out: tuple[LeftOut, ...] = ()
    trouble: str = ""
    findings: tuple[Finding, ...] = ()
    """What the mesh has to say about the objects that take part."""
    assumed: tuple[str, ...] = ()

    @property
    def passing(self) -> Fraction:
        """The share of calls that reach an application, endpoints of a backend taken as equal."""
        return sum((way.share * _passing(way.verdicts) for way in self.ways), Fraction(0))


def _passing(verdicts: Iterable[Verdict]) -> Fraction:
    counts = [(len(verdict.pods), verdict.passes) for verdict in verdicts]
    total = sum(count for count, _ in counts)
    return Fraction(sum(count for count, passes in counts if passes), total) if total else Fraction(0)


def explain(
    world: World, question: Question, *, imagined: bool, interception: Interception | None = None
) -> Explanation:
    """Answer a question. `imagined`: the World is made of manifests, so missing pods are filled in."""
    taken = interception or Interception()
    assumed: list[str] = []
    if imagined:
        world = _fill_in(world, question, assumed)
    snapshot = compile_world(world)
    peer = _caller(world, question, taken, assumed)
    key = f"{UDP_KEY if question.udp else ''}{_bracketed(question.host)}:{question.port}"
    destination = resolve(snapshot, question.source.namespace, key)
    if destination.cluster is None:
        destination = _directly(world, question, destination)
    seen = _seen(question, destination, assumed)
    request = question.request if seen == HTTP else None
    answer = Explanation(peer, seen, destination)
    if destination.cluster is None:
        return replace(answer, trouble=_unknown(world, question), assumed=tuple(assumed))
    asking = Asking(snapshot, peer, seen, request, enforced=taken.udp or not question.udp)
    answer = _route(answer, asking, sidecar=peer is not None)
    if peer is None and destination.splits:
        assumed.append("no sidecar sends this call, so no TrafficSplit applies to it")
    findings = tuple(_touching(snapshot, answer))
    return replace(answer, findings=findings, assumed=tuple(assumed))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


# --- who asks, and whom ---------------------------------------------------------------------------


def find_pods(world: World, name: NamespacedName) -> tuple[Pod, ...]:
    """The pods that a name means: the pod of it, or those of the workload, or of the service account."""
    there = [pod for key, pod in sorted(world.pods.items()) if key.namespace == name.namespace]
    own = tuple(pod for pod in there if pod.name == name)
    workload = tuple(pod for pod in there if pod.workload.name == name.name)
    return own or workload or tuple(pod for pod in there if pod.service_account == name.name)


def _caller(world: World, question: Question, taken: Interception, assumed: list[str]) -> Peer | None:
    """As whom the destination sees it; None for a call that no sidecar sends."""
    name = question.source
    pods = sorted(find_pods(world, name), key=lambda pod: (not pod.meshed, not pod.ready))
    if not pods:
        assumed.append(f"there is no pod or workload {name}; a pod with that service account is meant")
        past = _past_its_sidecar(question, frozenset(), taken)
        if past:
            assumed.append(past)
            return None
        return Peer(ServiceIdentity(world.trust_domain, name.namespace, name.name).uri)
    accounts = sorted({pod.service_account for pod in pods})
    if len(accounts) > 1:
        assumed.append(f"{name} means pods of {', '.join(accounts)}; {pods[0].name} is taken")
    if not pods[0].meshed:
        assumed.append(f"{pods[0].name} has no sidecar: it has no identity and is held to no TrafficSplit")
        return None
    past = _past_its_sidecar(question, pods[0].exclude_outbound, taken)
    if past:
        assumed.append(past)
        return None
    return Peer(identity_of(pods[0], world.trust_domain), str(pods[0].name), str(pods[0].workload))


def _past_its_sidecar(question: Question, excluded: frozenset[int], taken: Interception) -> str:
    """Why the call does not go through the caller's sidecar; empty if it does."""
    if question.udp and not taken.udp:
        return "this mesh does not intercept UDP: no sidecar sees the flow, and none enforces anything on it"
    if question.udp and question.port == _DNS:
        return "sidecars leave DNS alone: the flow goes past the caller's, without a mesh identity"
    if taken.redirected and question.port in excluded:
        return (
            f"the caller's sidecar leaves port {question.port} alone (annotation "
            f"{EXCLUDE_OUTBOUND_ANNOTATION}): the call goes past it, without a mesh identity"
        )
    return ""


def _fill_in(world: World, question: Question, assumed: list[str]) -> World:
    """A pod for a destination that the manifests name but do not run."""
    name = service_name(question.host, question.source.namespace, world.cluster_domain)
    if name is None:
        return world
    service = world.services.get(name)
    if service is None:
        if find_pods(world, name):
            return world
        named = any(
            (target.destination.namespace, target.destination.name) == (name.namespace, name.name)
            for target in world.targets.values()
        )
        if not named:
            return world
        assumed.append(
            f"no Service and no pod {name} is among the manifests; a pod with that account is meant"
        )
        return _with_pods(world, [_stand_in(world, name, ())])
    # the root may be split over Services that select nothing either
    roots = [service, *_backends_of(world, name)]
    empty = [one for one in roots if one.selector and not _selected(world, one)]
    assumed.extend(
        f"no pod of Service {one.name} is among the manifests; one with that account is meant"
        for one in empty
    )
    return _with_pods(world, [_stand_in(world, one.name, one.selector) for one in empty]) if empty else world


def _backends_of(world: World, root: NamespacedName) -> Iterator[Service]:
    domain = world.cluster_domain
    names = {
        service_name(backend.service, split.namespace, domain)
        for split in world.splits.values()
        if service_name(split.service, split.namespace, domain) == root
        for backend in split.backends
    }
    for name in sorted(world.services.keys() & names - {root}):
        yield world.services[name]


def _selected(world: World, service: Service) -> bool:
    selector = set(service.selector)
    space = service.name.namespace
    return any(pod.name.namespace == space and selector <= set(pod.labels) for pod in world.pods.values())


def _stand_in(world: World, name: NamespacedName, labels: tuple[tuple[str, str], ...]) -> Pod:
    """A ready pod with a sidecar that runs as the account `name`."""
    service = world.services.get(name)
    ports = {
        port.target: 1024 + index
        for index, port in enumerate(service.ports if service else ())
        if isinstance(port.target, str)
    }
    return Pod(
        name=NamespacedName(name.namespace, f"assumed-{name.name}"),
        ips=(),
        host_network=False,
        service_account=name.name,
        labels=labels,
        ready=True,
        terminating=False,
        meshed=True,
        ports=(),
        named_ports=tuple(sorted((name, number) for name, number in ports.items())),
        probes=(),
        exclude_inbound=frozenset(),
    )


def _with_pods(world: World, pods: Iterable[Pod]) -> World:
    """With these pods too, at addresses that are nobody's (RFC 2544)."""
    known = dict(world.pods)
    for number, pod in enumerate(pods, 1):
        known[pod.name] = replace(pod, ips=(str(_FIRST_ADDRESS + number),))
    return replace(world, pods=known)


def _directly(world: World, question: Question, unknown: Destination) -> Destination:
    """A pod by name, or one of a workload or an account that no Service stands for."""
    name = service_name(question.host, question.source.namespace, world.cluster_domain)
    found = find_pods(world, name) if name and name not in world.services else ()
    pods = sorted(found, key=lambda pod: (not pod.ready, pod.name))
    if not pods:
        return unknown
    protocols = {port.port: port.protocol for port in pods[0].ports}
    protocol = Protocol.UDP if question.udp else protocols.get(question.port, Protocol.DETECT)
    return Destination(port=question.port, protocol=protocol, cluster=f"pod/{pods[0].name}:{question.port}")


def _unknown(world: World, question: Question) -> str:
    name = service_name(question.host, question.source.namespace, world.cluster_domain)
    service = world.services.get(name) if name else None
    if service is None:
        return f"nothing in it is called {question.host}:{question.port}; the call goes there unchanged"
    ports = ", ".join(f"{port.port}/{port.transport}" for port in service.ports) or "none"
    return (
        f"Service {name} has no port {question.port}/{'UDP' if question.udp else 'TCP'}; its ports: {ports}"
    )


def _seen(question: Question, destination: Destination, assumed: list[str]) -> str:
    if question.udp:
        return UDP
    http = spoken_as(destination.protocol)
    if question.request is None:
        return TCP
    if http is False:
        assumed.append(
            f"port {question.port} is declared as {destination.protocol}: the proxies see a connection, "
            "not the request in it"
        )
        return TCP
    return HTTP


# --- where it goes --------------------------------------------------------------------------------


def _route(answer: Explanation, asking: Asking, *, sidecar: bool) -> Explanation:
    destination = answer.destination
    table = compile_destination(destination)
    chosen = choose(table, asking.request) if sidecar else None
    if not isinstance(chosen, Via):
        return _to_root(answer, asking)
    split = chosen.split
    answer = replace(answer, split=split.name, split_match=_met(split, asking.request))
    backends = takers(split, lambda cluster: cluster_of(asking.snapshot, cluster))
    answer = replace(
        answer, left_out=tuple(_left_out(answer, asking.snapshot, {b.service for b in backends}))
    )
    if not backends:
        if split.fallback_root:
            return _to_root(answer, asking)
        return replace(answer, trouble=f"no backend of TrafficSplit {split.name} can take it: 503")
    total = sum(backend.weight for backend in backends)
    shares: dict[tuple[str, str], int] = {}
    for backend in backends:
        key = backend.service, backend.cluster
        shares[key] = shares.get(key, 0) + backend.weight
    ways = tuple(
        Way(
            service,
            Fraction(weight, total),
            asking.verdicts(cluster_of(asking.snapshot, cluster)),
            asking.breaker(cluster),
        )
        for (service, cluster), weight in shares.items()
    )
    return replace(answer, ways=ways)


def _to_root(answer: Explanation, asking: Asking) -> Explanation:
    destination = answer.destination
    endpoints = cluster_of(asking.snapshot, destination.cluster or "")
    if not endpoints:
        return replace(
            answer, trouble=f"{destination.service or destination.cluster} has no ready endpoint: 503"
        )
    breaker = asking.breaker(destination.cluster or "")
    way = Way(destination.service or "", Fraction(1), asking.verdicts(endpoints), breaker)
    return replace(answer, ways=(way,))


def _met(split: Split, request: Request | None) -> str:
    """The match of a split's filter that a request meets: the one that ranks highest (R4)."""
    if request is None or split.matches is None:
        return ""
    met = [match for match in compile_matches(split.matches, []) if match.matches(request)]
    best = max(met, key=lambda match: (match.filters, match.literal), default=None)
    return f"{best.route.group}/{best.route.name}" if best else ""


def _left_out(answer: Explanation, snapshot: Snapshot, taken: set[str]) -> Iterator[LeftOut]:
    split = snapshot.made_from.world.splits[NamespacedName.parse(answer.split)]
    on_port = {
        backend.service: backend
        for known in answer.destination.splits
        if known.name == answer.split
        for backend in known.backends
    }
    for backend in split.backends:
        name = str(service_name(backend.service, split.namespace, snapshot.made_from.world.cluster_domain))
        if name in taken:
            continue
        if name not in on_port:
            yield LeftOut(name, f"no such Service, or it does not expose port {answer.destination.port}")
        elif backend.weight == 0:
            yield LeftOut(name, "its weight is 0")
        else:
            yield LeftOut(name, "it has no ready endpoint")


# --- what the destination says ----------------------------------------------------------------------


class Asking:
    """One call, put to the proxies of endpoints."""

    def __init__(
        self,
        snapshot: Snapshot,
        peer: Peer | None,
        seen: str,
        request: Request | None,
        *,
        enforced: bool = True,
    ) -> None:
        """`enforced`: whether sidecars see such calls at all."""
        self.enforced = enforced
        self.snapshot = snapshot
        self.peer = peer
        self.seen = seen
        self.request = request

    def verdicts(self, endpoints: Iterable[Endpoint]) -> tuple[Verdict, ...]:
        """What each endpoint's proxy says; those that say the same are one Verdict."""
        found: dict[object, Verdict] = {}
        for endpoint in endpoints:
            verdict = self._ask(endpoint)
            key = (verdict.port, _gist(verdict.decision), verdict.rules, verdict.misses, verdict.limits)
            known = found.get(key)
            found[key] = verdict if known is None else replace(known, pods=known.pods + verdict.pods)
        return tuple(found.values())

    def _ask(self, endpoint: Endpoint) -> Verdict:
        pod = endpoint.pod or endpoint.ip
        inbound = self.snapshot.inbound.get(pod)
        if inbound is None or endpoint.identity is None or not self.enforced:
            return Verdict((pod,), endpoint.port, None)
        decision = self.admit(compile_access(inbound), endpoint.port)
        rules: tuple[str, ...] = ()
        if isinstance(decision, Permit) and decision.target:
            rules = tuple(self._rules(decision, endpoint.port))
        refused = isinstance(decision, Denial) or decision.would_deny is not None
        misses = tuple(self.misses(inbound, endpoint.port)) if refused else ()
        match = self._match(decision.match) if isinstance(decision, Permit) and decision.match else ""
        limits = self._limits(inbound, endpoint.port, decision)
        return Verdict((pod,), endpoint.port, decision, rules, match, misses, limits)

    def _limits(self, inbound: Inbound, port: int, decision: Permit | Denial) -> tuple[RateLimit, ...]:
        """What the sidecar would hold such a call to, once it is admitted."""
        if isinstance(decision, Denial) or decision.note == "probe" or self.seen == UDP:
            return ()
        caller = "" if self.peer is None else self.peer.identity
        return Rates(inbound.limits).concerning(port, caller, self.request)

    def breaker(self, cluster: str) -> CircuitBreaker | None:
        """What the caller's sidecar is given for a cluster; nothing for a caller without one."""
        held = self.enforced and self.peer is not None and self.seen != UDP
        return self.snapshot.breakers.get(cluster) if held else None

    def admit(self, table: AccessTable, port: int) -> Permit | Denial:
        """The sidecar's own function for what it sees."""
        if self.seen == UDP:
            return admit_flow(table, self.peer, port)
        if self.request is None:
            return admit_connection(table, self.peer, port)
        return admit_request(table, self.peer, port, self.request)

    def _rules(self, permit: Permit, port: int) -> Iterator[str]:
        """The rules of the TrafficTarget that allows it: the HTTP match's, and those that name the port."""
        world = self.snapshot.made_from.world
        target = world.targets[NamespacedName.parse(permit.target)]
        group, _, match = permit.match.rpartition("/")
        for index, rule in enumerate(target.rules):
            name = NamespacedName(target.namespace, rule.name)
            if rule.kind == "HTTPRouteGroup":
                if str(name) == group and (rule.matches is None or match in rule.matches):
                    yield f"spec.rules[{index}]"
                continue
            routes = world.udp_routes if self.seen == UDP else world.tcp_routes
            wanted = "UDPRoute" if self.seen == UDP else "TCPRoute"
            route = routes.get(name)
            if rule.kind == wanted and route is not None and (not route.ports or port in route.ports):
                yield f"spec.rules[{index}]"

    def _match(self, met: str) -> str:
        """`namespace/group/match` → its place in the group; the first of that name."""
        group, _, name = met.rpartition("/")
        known = self.snapshot.made_from.world.route_groups[NamespacedName.parse(group)]
        return next(f"spec.matches[{i}]" for i, match in enumerate(known.matches) if match.name == name)

    def misses(self, inbound: Inbound, port: int) -> Iterator[Miss]:
        """What keeps each TrafficTarget that concerns this pod from allowing it; the caller's own first."""
        if self.peer is None:
            return
        alone = replace(inbound, mode=Mode.ENFORCE, same_service_account=False)
        named: list[Miss] = []
        others: list[Miss] = []
        for grant in inbound.grants:
            whole = compile_access(replace(alone, grants=(grant,)))
            concerned = bool(whole.grants_for(self.peer))
            nearest = compile_access(replace(alone, grants=(self._narrowed(grant),)))
            said = self.admit(nearest, port)
            if isinstance(said, Denial):
                (named if concerned else others).append(self._miss(grant, said))
        yield from (*named, *others, *self._void(inbound))

    def _narrowed(self, grant: Grant) -> Grant:
        """The grant with only the HTTP match that comes nearest, so that its miss is the one that is said."""
        if self.request is None or not grant.http or len(grant.http) == 1:
            return grant
        return replace(grant, http=(nearest(grant.http, self.request),))

    def _miss(self, grant: Grant, said: Denial) -> Miss:
        text = said.nearest[0].removeprefix(f"{grant.target}: ") if said.nearest else said.message
        several = said.reason is DenialReason.ROUTE_NOT_ALLOWED and len(grant.http or ()) > 1
        if several and self.request is not None:
            text += f" (the nearest of {len(grant.http or ())} matches)"
        return Miss(NamespacedName.parse(grant.target), text)

    def _void(self, inbound: Inbound) -> Iterator[Miss]:
        """TrafficTargets that name this pod's account but grant nothing at all."""
        granting = {grant.target for grant in inbound.grants}
        world = self.snapshot.made_from.world
        for name, target in sorted(world.targets.items()):
            subject = target.destination
            identity = ServiceIdentity(world.trust_domain, subject.namespace, subject.name).uri
            if identity == inbound.identity and str(name) not in granting:
                errors = [
                    finding.message
                    for finding in self.snapshot.findings
                    if finding.ref == target.ref and finding.severity is Severity.ERROR
                ]
                yield Miss(name, f"it grants nothing: {'; '.join(errors)}")


def nearest(matches: tuple[RouteMatch, ...], request: Request) -> RouteMatch:
    """The match that most of a request's parts meet: path first, then method, then header filters."""
    return max(matches, key=lambda match: _held(match, request))


def _held(match: RouteMatch, request: Request) -> tuple[bool, bool, int, int]:
    nothing = replace(match, path=None, methods=frozenset(), headers=())
    path = _meets(replace(nothing, path=match.path), request)
    method = _meets(replace(nothing, methods=match.methods), request)
    headers = [_meets(replace(nothing, headers=(header,)), request) for header in match.headers]
    return path, method, -headers.count(False), headers.count(True)


def _meets(match: RouteMatch, request: Request) -> bool:
    return any(compiled.matches(request) for compiled in compile_matches((match,), []))


def _gist(decision: Permit | Denial | None) -> object:
    """A decision without the pod in its words: equal for all pods of a Deployment."""
    if isinstance(decision, Denial):
        return decision.reason, decision.id, decision.nearest
    if isinstance(decision, Permit) and decision.would_deny is not None:
        return decision.note, decision.would_deny.id, decision.would_deny.nearest
    return decision


# --- what is to be said of the objects that take part -------------------------------------------------


def _touching(snapshot: Snapshot, answer: Explanation) -> Iterator[Finding]:
    """Findings about TrafficTargets, routes, splits, Services and pods that this answer rests on."""
    world = snapshot.made_from.world
    pods = {pod for way in answer.ways for verdict in way.verdicts for pod in verdict.pods}
    targets = {
        NamespacedName.parse(grant.target)
        for pod in pods
        if pod in snapshot.inbound
        for grant in snapshot.inbound[pod].grants
    }
    targets |= {miss.target for way in answer.ways for verdict in way.verdicts for miss in verdict.misses}
    used = {world.targets[name].ref for name in targets if name in world.targets}
    root = answer.destination.service
    for ref, keys in snapshot.made_from.policy.concerns.items():
        if answer.destination.cluster in keys:
            used.add(ref)
    services = {way.service for way in answer.ways} | {root or ""} | {out.service for out in answer.left_out}
    used |= {_ref("", "Service", name) for name in services if name}
    used |= {_ref("", "Pod", pod) for pod in pods if "/" in pod}
    routes = {ref for ref, users in snapshot.made_from.policy.users.items() if users & used}
    for finding in snapshot.findings:
        if finding.ref in used or finding.ref in routes:
            yield finding


def _ref(group: str, kind: str, name: str) -> ObjectRef:
    namespace, _, own = name.partition("/")
    return ObjectRef(group, kind, namespace, own)
