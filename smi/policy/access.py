"""Who may call: admission decisions at the destination (rules S20-S29, S32, readings R1, R2, R9, R10).

`compile_access` indexes a pod's grants by caller once per update; the `admit_*` functions run per
request (HTTP), connection (TCP) or flow (UDP) and give a Permit or a Denial, both naming what
decided. Only these functions make a Permit, and opening the local app takes one. Knows nothing of
connections, certificates or metrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

from smi.policy.match import CompiledMatch, Request, compile_matches
from smi.policy.path import BadTarget, normalise_target
from smi.policy.snapshot import Grant, Inbound, Mode, Mtls, PortSet

NEAREST: Final = 3
"""How many near misses a denial names at most."""


class DenialReason(StrEnum):
    """Why a call is refused. The value is public: header, log line and metric label."""

    NO_IDENTITY = "no-identity"
    """S32: the caller has no mesh identity and the namespace is `strict`."""
    NO_TRAFFIC_TARGET = "no-traffic-target"
    """S20: no TrafficTarget concerns this destination at all."""
    SOURCE_NOT_ALLOWED = "source-not-allowed"
    """TrafficTargets concern this destination; none names this caller."""
    PORT_NOT_ALLOWED = "port-not-allowed"
    """A TrafficTarget names the caller; none of its L4 rules has this port for this protocol."""
    ROUTE_NOT_ALLOWED = "route-not-allowed"
    """A TrafficTarget names caller and port; none of its HTTP rules has this request."""
    NO_CONFIG = "no-config"
    """The proxy has not had any configuration yet."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An authenticated caller: its SPIFFE id, and its pod (`namespace/name`) where that is proven."""

    identity: str
    pod: str | None = None
    workload: str = ""
    """What the pod is an instance of (`smi.names.Workload`): for telemetry, nothing is decided on it."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal, the same in every protocol (S25)."""

    reason: DenialReason
    id: str
    """12 hex digits, a digest of reason, caller, destination and port: equal refusals share it."""
    message: str
    nearest: tuple[str, ...] = ()
    """For up to NEAREST TrafficTargets concerned: what kept them from allowing it."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to reach the local app."""

    target: str = ""
    """`namespace/name` of the TrafficTarget that allows it; empty where a note says what does."""
    match: str = ""
    """`namespace/group/match` of the HTTP match that allows it; empty for an L4-only grant."""
    note: str = ""
    """`""`, `probe`, `permissive`, `audit`, `same-service-account` or `unauthenticated`."""
    would_deny: Denial | None = None
    """Set with the notes `permissive` and `audit` (S27): what `enforce` would have said."""


_PROBE: Final = Permit(note="probe")
_SAME_SERVICE_ACCOUNT: Final = Permit(note="same-service-account")
_UNAUTHENTICATED: Final = Permit(note="unauthenticated")


class _CompiledGrant:
    """One Grant, its permits made in advance: admitting allocates nothing."""

    __slots__ = ("grant", "http", "permit")

    def __init__(self, grant: Grant, quarantined: list[str]) -> None:
        self.grant = grant
        self.permit = Permit(target=grant.target)
        self.http: tuple[tuple[CompiledMatch, Permit], ...] | None = None
        if grant.http is not None:
            self.http = tuple(
                (match, Permit(grant.target, f"{match.route.group}/{match.route.name}"))
                for match in compile_matches(grant.http, quarantined)
            )

    def http_port(self, port: int) -> bool:
        """Whether the L4 side of this grant lets an HTTP request to `port` through (S21, R1)."""
        grant = self.grant
        if grant.port is not None and grant.port != port:
            return False
        if grant.tcp is not None:
            return port in grant.tcp
        return grant.http is not None  # a UDPRoute alone says nothing about HTTP (R1)

    def http_permit(self, request: Request) -> Permit | None:
        """The permit for a request whose port is fine."""
        if self.http is None:
            return self.permit
        for match, permit in self.http:
            if match.matches(request):
                return permit
        return None

    def l4(self, ports: PortSet | None, port: int) -> bool:
        """Whether a TCP connection or UDP flow to `port` has one of these ports (S21, S24)."""
        grant = self.grant
        return ports is not None and port in ports and (grant.port is None or grant.port == port)


_Grants = tuple[_CompiledGrant, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AccessTable:
    """What one pod enforces, indexed by caller."""

    inbound: Inbound
    probes: frozenset[tuple[int, bytes]]
    """(port, normal path) of the kubelet's probes (S26)."""
    quarantined: tuple[str, ...]
    """Patterns this proxy could not compile; their matches match nothing (R3)."""
    _by_identity: dict[str, _Grants]
    _by_pod: dict[str, _Grants]

    def grants_for(self, peer: Peer) -> _Grants:
        """The grants that name this caller, by identity first."""
        grants = self._by_identity.get(peer.identity, ())
        if self._by_pod and peer.pod is not None:
            named = self._by_pod.get(peer.pod, ())
            grants += tuple(grant for grant in named if grant not in grants)
        return grants


def compile_access(inbound: Inbound) -> AccessTable:
    """Index a pod's policy. Never fails: a pattern that does not compile matches nothing."""
    quarantined: list[str] = []
    by_identity: dict[str, list[_CompiledGrant]] = {}
    by_pod: dict[str, list[_CompiledGrant]] = {}
    for grant in inbound.grants:
        compiled = _CompiledGrant(grant, quarantined)
        for identity in grant.sources:
            by_identity.setdefault(identity, []).append(compiled)
        for pod in grant.source_pods:
            by_pod.setdefault(pod, []).append(compiled)
    return AccessTable(
        inbound,
        frozenset(_probes(inbound)),
        tuple(quarantined),
        {key: tuple(grants) for key, grants in by_identity.items()},
        {key: tuple(grants) for key, grants in by_pod.items()},
    )


def _probes(inbound: Inbound) -> Iterator[tuple[int, bytes]]:
    for probe in inbound.probes:
        try:
            yield probe.port, normalise_target(probe.path.encode() or b"/")[0]
        except BadTarget:
            continue  # no request can have such a path either: it is refused before admission


def admit_http(table: AccessTable, peer: Peer | None, port: int, request: Request) -> Permit | Denial:
    """May `peer` (None: no mesh identity) send this request to the pod's `port`?"""
    if peer is None:
        if (port, request.path) in table.probes and request.method == b"GET":
            return _PROBE
        return _without_identity(table, port)
    grants = table.grants_for(peer)
    for grant in grants:
        if grant.http_port(port):
            permit = grant.http_permit(request)
            if permit is not None:
                return permit
    if _same_service_account(table, peer):
        return _SAME_SERVICE_ACCOUNT
    allowed_port = any(grant.http_port(port) for grant in grants)
    reason = DenialReason.ROUTE_NOT_ALLOWED if allowed_port else DenialReason.PORT_NOT_ALLOWED
    misses = (_http_miss(grant, port, request) for grant in grants)
    return _refuse(table, peer, port, reason, misses, "HTTP")


def admit_tcp(table: AccessTable, peer: Peer | None, port: int) -> Permit | Denial:
    """May `peer` open an opaque TCP connection to the pod's `port`?

    A TrafficTarget with HTTP rules allows requests only, and here there is none (S21).
    """
    if peer is None:
        return _without_identity(table, port)
    grants = table.grants_for(peer)
    for grant in grants:
        if grant.http is None and grant.l4(grant.grant.tcp, port):
            return grant.permit
    if _same_service_account(table, peer):
        return _SAME_SERVICE_ACCOUNT
    allowed_port = any(grant.http is not None and grant.http_port(port) for grant in grants)
    reason = DenialReason.ROUTE_NOT_ALLOWED if allowed_port else DenialReason.PORT_NOT_ALLOWED
    misses = (_tcp_miss(grant, port) for grant in grants)
    return _refuse(table, peer, port, reason, misses, "TCP")


def admit_udp(table: AccessTable, peer: Peer | None, port: int) -> Permit | Denial:
    """May `peer` send a UDP flow to the pod's `port`? Only a UDPRoute allows that (R1)."""
    if peer is None:
        return _without_identity(table, port)
    grants = table.grants_for(peer)
    for grant in grants:
        if grant.l4(grant.grant.udp, port):
            return grant.permit
    if _same_service_account(table, peer):
        return _SAME_SERVICE_ACCOUNT
    misses = (f"{grant.grant.target}: {_port_miss('UDPRoute', grant.grant.udp, port)}" for grant in grants)
    return _refuse(table, peer, port, DenialReason.PORT_NOT_ALLOWED, misses, "UDP")


def deny_without_config(peer: Peer | None, port: int) -> Denial:
    """The refusal of a proxy that has no configuration yet: nothing is known, nothing passes."""
    source = peer.identity if peer else ""
    return Denial(
        DenialReason.NO_CONFIG,
        denial_id(DenialReason.NO_CONFIG, source, "", port),
        "this proxy has not received its configuration yet",
    )


def denial_id(reason: DenialReason, source: str, destination: str, port: int) -> str:
    """12 hex digits that equal refusals share; `source` is empty for a caller without identity."""
    text = "\0".join((reason, source, destination, str(port)))
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=6).hexdigest()


def _same_service_account(table: AccessTable, peer: Peer) -> bool:
    return table.inbound.same_service_account and peer.identity == table.inbound.identity


def _without_identity(table: AccessTable, port: int) -> Permit | Denial:
    """S32; `strict` wins over every mode (R9)."""
    if table.inbound.mtls is Mtls.PERMISSIVE:
        return _UNAUTHENTICATED
    reason = DenialReason.NO_IDENTITY
    return Denial(
        reason,
        denial_id(reason, "", table.inbound.identity, port),
        f"a caller without a mesh identity may not reach {table.inbound.pod} on port {port}",
    )


def _refuse(
    table: AccessTable,
    peer: Peer,
    port: int,
    reason: DenialReason,
    misses: Iterator[str],
    protocol: str,
) -> Permit | Denial:
    """The denial, or in a permissive or audit namespace the permit that carries it (S27).

    `reason` holds when grants name the caller; without one the reason is found here.
    """
    inbound = table.inbound
    nearest = tuple(islice(misses, NEAREST))
    if not nearest:
        reason = DenialReason.SOURCE_NOT_ALLOWED if inbound.grants else DenialReason.NO_TRAFFIC_TARGET
        nearest = tuple(
            f"{grant.target}: {peer.identity} is not among its sources" for grant in inbound.grants[:NEAREST]
        )
    denial = Denial(
        reason,
        denial_id(reason, peer.identity, inbound.identity, port),
        f"no TrafficTarget allows {peer.identity} to reach {inbound.pod} on port {port} ({protocol})",
        nearest,
    )
    if inbound.mode is Mode.ENFORCE:
        return denial
    return Permit(note=inbound.mode.value, would_deny=denial)


def _http_miss(grant: _CompiledGrant, port: int, request: Request) -> str:
    target = grant.grant.target
    if not grant.http_port(port):
        if grant.grant.tcp is None and grant.grant.http is None:
            return f"{target}: it has no rule for HTTP"
        return f"{target}: {_port_miss('TCPRoute', grant.grant.tcp, port)}"
    if not grant.http:
        return f"{target}: its HTTP rules resolve to no match"
    return f"{target}: {grant.http[0][0].miss(request)}" + _others(len(grant.http) - 1)


def _tcp_miss(grant: _CompiledGrant, port: int) -> str:
    target = grant.grant.target
    if grant.http is not None:
        return f"{target}: it allows HTTP requests only, this connection is not HTTP"
    return f"{target}: {_port_miss('TCPRoute', grant.grant.tcp, port)}"


def _port_miss(kind: str, ports: PortSet | None, port: int) -> str:
    if ports is None:
        return f"it has no {kind}" if kind == "UDPRoute" else f"its destination port is not {port}"
    if not ports.every and not ports.ports:
        return f"its {kind} rules resolve to no port"
    return f"port {port} is not in its {kind} rules or is not its destination port"


def _others(count: int) -> str:
    return f" (and {count} more matches)" if count > 0 else ""
