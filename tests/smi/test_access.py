"""S20-S28, S32, R1, R2, R9, R10: admission at the destination; S29 as properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.policy.access import (
    AccessTable,
    Denial,
    DenialReason,
    Peer,
    Permit,
    admit_http,
    admit_tcp,
    admit_udp,
    compile_access,
    denial_id,
    deny_without_config,
)
from smi.policy.match import Request
from smi.policy.snapshot import Grant, Inbound, Mode, Mtls, PortSet, Probe, RouteMatch
from tests.smi import strategies as s

WEB, API, STRANGER = (Peer(identity) for identity in s.IDENTITIES)
ITEMS = RouteMatch("shop/routes", "items", "/items", frozenset({"GET"}), ())
GET_ITEMS = Request(b"GET", b"/items", b"api")
DELETE_ITEMS = Request(b"DELETE", b"/items", b"api")


def grant(target: str = "shop/t", **fields: object) -> Grant:
    return Grant(target, frozenset({WEB.identity}), **fields)  # type: ignore[arg-type]  # any field of Grant


def table(*grants: Grant, **fields: object) -> AccessTable:
    return compile_access(Inbound("shop/api-1", API.identity, grants=grants, **fields))  # type: ignore[arg-type]  # any fields


def reason(outcome: Permit | Denial) -> str:
    return outcome.reason.value if isinstance(outcome, Denial) else f"permit {outcome.note}".strip()


def ports(*numbers: int) -> PortSet:
    return PortSet(ports=frozenset(numbers))


EVERY = PortSet(every=True)
NOTHING = PortSet()


def test_s20_nothing_passes_without_a_traffic_target() -> None:
    empty = table()
    for outcome in (
        admit_http(empty, WEB, 80, GET_ITEMS),
        admit_tcp(empty, WEB, 80),
        admit_udp(empty, WEB, 80),
    ):
        assert reason(outcome) == "no-traffic-target"


@pytest.mark.parametrize(
    ("fields", "http", "tcp", "udp"),
    [
        # S21: TCPRoute only = anything on these ports.
        ({"tcp": ports(80)}, "permit", "permit", "port-not-allowed"),
        ({"tcp": ports(81)}, "port-not-allowed", "port-not-allowed", "port-not-allowed"),
        # S24: without ports = all ports.
        ({"tcp": EVERY}, "permit", "permit", "port-not-allowed"),
        ({"udp": EVERY}, "port-not-allowed", "port-not-allowed", "permit"),
        # S21: HTTPRouteGroup only = these routes on any HTTP port, and no opaque connection.
        ({"http": (ITEMS,)}, "permit", "route-not-allowed", "port-not-allowed"),
        # S21: both = both.
        ({"tcp": ports(80), "http": (ITEMS,)}, "permit", "route-not-allowed", "port-not-allowed"),
        ({"tcp": ports(81), "http": (ITEMS,)}, "port-not-allowed", "port-not-allowed", "port-not-allowed"),
        # R1: a UDPRoute beside HTTP or TCP rules concerns UDP only.
        ({"udp": ports(80), "http": (ITEMS,)}, "permit", "route-not-allowed", "permit"),
        ({"udp": ports(80)}, "port-not-allowed", "port-not-allowed", "permit"),
        ({"udp": ports(81), "tcp": ports(80)}, "permit", "permit", "port-not-allowed"),
        # R2: an unresolved rule keeps its place and matches nothing.
        ({"tcp": NOTHING, "http": (ITEMS,)}, "port-not-allowed", "port-not-allowed", "port-not-allowed"),
        ({"tcp": EVERY, "http": ()}, "route-not-allowed", "route-not-allowed", "port-not-allowed"),
        # S1, R12: destination.port of access v1alpha1/2 holds for every kind of rule.
        ({"port": 80, "http": (ITEMS,)}, "permit", "route-not-allowed", "port-not-allowed"),
        ({"port": 81, "http": (ITEMS,)}, "port-not-allowed", "port-not-allowed", "port-not-allowed"),
        (
            {"port": 81, "tcp": EVERY, "udp": EVERY},
            "port-not-allowed",
            "port-not-allowed",
            "port-not-allowed",
        ),
        # S22: no rules.
        ({}, "port-not-allowed", "port-not-allowed", "port-not-allowed"),
    ],
)
def test_s21_one_traffic_target(fields: dict[str, object], http: str, tcp: str, udp: str) -> None:
    access = table(grant(**fields))
    assert reason(admit_http(access, WEB, 80, GET_ITEMS)) == http
    assert reason(admit_tcp(access, WEB, 80)) == tcp
    assert reason(admit_udp(access, WEB, 80)) == udp


def test_s21_or_between_traffic_targets() -> None:
    access = table(grant("shop/a", tcp=ports(81)), grant("shop/b", http=(ITEMS,)))
    assert admit_http(access, WEB, 80, GET_ITEMS) == Permit("shop/b", "shop/routes/items")
    assert admit_http(access, WEB, 81, DELETE_ITEMS) == Permit("shop/a")


def test_s21_the_halves_of_two_targets_do_not_add_up() -> None:
    access = table(grant("shop/a", tcp=ports(81), http=(ITEMS,)), grant("shop/b", tcp=ports(80), http=()))
    assert reason(admit_http(access, WEB, 80, GET_ITEMS)) == "route-not-allowed"


def test_s21_a_source_must_be_named() -> None:
    outcome = admit_http(table(grant(http=(ITEMS,))), STRANGER, 80, GET_ITEMS)
    assert isinstance(outcome, Denial)
    assert outcome.reason is DenialReason.SOURCE_NOT_ALLOWED
    assert outcome.nearest == (f"shop/t: {STRANGER.identity} is not among its sources",)


def test_sources_may_be_pods_selected_by_label() -> None:
    by_pod = Grant("shop/t", frozenset(), frozenset({"shop/web-1"}), http=(ITEMS,))
    assert reason(admit_http(table(by_pod), Peer(WEB.identity, "shop/web-1"), 80, GET_ITEMS)) == "permit"
    assert (
        reason(admit_http(table(by_pod), Peer(WEB.identity, "shop/web-2"), 80, GET_ITEMS))
        == "source-not-allowed"
    )
    assert reason(admit_http(table(by_pod), WEB, 80, GET_ITEMS)) == "source-not-allowed"


def test_s25_a_denial_has_one_id_in_every_protocol_and_proxy() -> None:
    access = table(grant(http=(ITEMS,)))
    http, tcp = admit_http(access, WEB, 80, DELETE_ITEMS), admit_tcp(access, WEB, 80)
    assert isinstance(http, Denial)
    assert isinstance(tcp, Denial)
    assert http.id == tcp.id == denial_id(DenialReason.ROUTE_NOT_ALLOWED, WEB.identity, API.identity, 80)
    assert len(http.id) == 12
    assert int(http.id, 16) >= 0
    elsewhere = admit_http(access, WEB, 81, DELETE_ITEMS)
    assert isinstance(elsewhere, Denial)
    assert elsewhere.id != http.id


def test_s25_a_denial_says_what_came_nearest() -> None:
    outcome = admit_http(table(grant(http=(ITEMS,))), WEB, 80, DELETE_ITEMS)
    assert isinstance(outcome, Denial)
    assert outcome.nearest == ("shop/t: method DELETE is not in match items of HTTPRouteGroup shop/routes",)
    assert outcome.message == (
        "no TrafficTarget allows spiffe://cluster.local/ns/shop/sa/web to reach shop/api-1 on port 80 (HTTP)"
    )


def test_a_denial_is_bounded() -> None:
    many = tuple(grant(f"shop/t{number}", http=(ITEMS,) * 50) for number in range(100))
    outcome = admit_http(table(*many), WEB, 80, DELETE_ITEMS)
    assert isinstance(outcome, Denial)
    assert len(outcome.nearest) == 3


@pytest.mark.parametrize(
    ("port", "method", "path", "expected"),
    [
        (80, b"GET", b"/health", "permit probe"),
        (80, b"POST", b"/health", "no-identity"),
        (80, b"GET", b"/healthz", "no-identity"),
        (81, b"GET", b"/health", "no-identity"),
    ],
)
def test_s26_r10_probes_pass_by_port_path_and_method(
    port: int, method: bytes, path: bytes, expected: str
) -> None:
    access = table(probes=(Probe(80, "/x/../health"),))
    assert reason(admit_http(access, None, port, Request(method, path, b"10.0.0.1"))) == expected


def test_r10_a_meshed_caller_needs_a_traffic_target_for_a_probe_path() -> None:
    access = table(probes=(Probe(80, "/health"),))
    assert reason(admit_http(access, WEB, 80, Request(b"GET", b"/health", b"api"))) == "no-traffic-target"


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.AUDIT])
def test_s27_permissive_and_audit_allow_and_carry_the_denial(mode: Mode) -> None:
    outcome = admit_http(table(mode=mode), WEB, 80, GET_ITEMS)
    assert isinstance(outcome, Permit)
    assert outcome.note == mode.value
    assert outcome.would_deny == admit_http(table(), WEB, 80, GET_ITEMS)
    for other in (admit_tcp(table(mode=mode), WEB, 80), admit_udp(table(mode=mode), WEB, 80)):
        assert reason(other) == f"permit {mode.value}"


def test_s27_what_is_allowed_anyway_has_no_note() -> None:
    assert admit_http(table(grant(http=(ITEMS,)), mode=Mode.AUDIT), WEB, 80, GET_ITEMS) == Permit(
        "shop/t", "shop/routes/items"
    )


def test_s28_same_service_account_is_an_option() -> None:
    assert reason(admit_http(table(), API, 80, GET_ITEMS)) == "no-traffic-target"
    allowing = table(same_service_account=True)
    for outcome in (
        admit_http(allowing, API, 80, GET_ITEMS),
        admit_tcp(allowing, API, 80),
        admit_udp(allowing, API, 80),
    ):
        assert reason(outcome) == "permit same-service-account"
    assert reason(admit_tcp(allowing, WEB, 80)) == "no-traffic-target"


@pytest.mark.parametrize("mode", Mode)
def test_s32_r9_strict_refuses_callers_without_identity_in_every_mode(mode: Mode) -> None:
    strict = table(grant(tcp=EVERY, udp=EVERY), mode=mode)
    for outcome in (
        admit_http(strict, None, 80, GET_ITEMS),
        admit_tcp(strict, None, 80),
        admit_udp(strict, None, 80),
    ):
        assert reason(outcome) == "no-identity"


def test_s32_permissive_mtls_admits_them_as_unauthenticated() -> None:
    lenient = table(mtls=Mtls.PERMISSIVE, probes=(Probe(80, "/health"),))
    assert reason(admit_http(lenient, None, 80, GET_ITEMS)) == "permit unauthenticated"
    assert reason(admit_tcp(lenient, None, 80)) == "permit unauthenticated"
    assert reason(admit_http(lenient, None, 80, Request(b"GET", b"/health", b""))) == "permit probe"


def test_without_config_everything_is_denied() -> None:
    assert deny_without_config(WEB, 80).reason is DenialReason.NO_CONFIG
    assert deny_without_config(None, 80).id != deny_without_config(WEB, 80).id


# --- S29 --------------------------------------------------------------------------------------

ELSEWHERE = Peer("spiffe://cluster.local/ns/other/sa/batch")


def decisions(inbound: Inbound, peer: Peer | None, port: int, request: Request) -> list[Permit | Denial]:
    access = compile_access(inbound)
    return [
        admit_http(access, peer, port, request),
        admit_tcp(access, peer, port),
        admit_udp(access, peer, port),
    ]


@given(s.inbounds, s.grants, s.peers, s.ports, s.requests)
def test_s29_adding_a_traffic_target_never_takes_a_permission_away(
    inbound: Inbound, added: Grant, peer: Peer | None, port: int, request_: Request
) -> None:
    more = replace(inbound, grants=tuple(sorted((*inbound.grants, added), key=lambda item: item.target)))
    before = decisions(inbound, peer, port, request_)
    after = decisions(more, peer, port, request_)
    for was, now in zip(before, after, strict=True):
        if isinstance(was, Permit):
            assert isinstance(now, Permit)
            if was.would_deny is None and was.note == "":
                assert now.would_deny is None


@given(s.inbounds.filter(lambda inbound: inbound.grants), s.grants, s.peers, s.ports, s.requests)
def test_s29_a_traffic_target_for_others_never_changes_a_decision(
    inbound: Inbound, added: Grant, peer: Peer | None, port: int, request_: Request
) -> None:
    unrelated = replace(
        added, target="zzz/unrelated", sources=frozenset({ELSEWHERE.identity}), source_pods=frozenset()
    )
    more = replace(inbound, grants=(*inbound.grants, unrelated))
    for was, now in zip(
        decisions(inbound, peer, port, request_), decisions(more, peer, port, request_), strict=True
    ):
        assert verdict(was) == verdict(now)


@given(s.inbounds, s.peers, s.ports, s.requests, st.permutations(range(4)))
def test_s29_the_order_of_traffic_targets_never_changes_a_verdict(
    inbound: Inbound, peer: Peer | None, port: int, request_: Request, order: list[int]
) -> None:
    shuffled = tuple(inbound.grants[i] for i in order if i < len(inbound.grants))
    for was, now in zip(
        decisions(inbound, peer, port, request_),
        decisions(replace(inbound, grants=shuffled), peer, port, request_),
        strict=True,
    ):
        assert verdict(was) == verdict(now)


def verdict(outcome: Permit | Denial) -> tuple[object, ...]:
    """A decision without the names of the TrafficTargets that might equally have made it."""
    if isinstance(outcome, Denial):
        return outcome.reason, outcome.id
    return outcome.note, outcome.would_deny and outcome.would_deny.id


@given(s.inbounds, s.peers, s.ports, s.requests)
def test_admission_agrees_with_the_rule_read_aloud(
    inbound: Inbound, peer: Peer | None, port: int, request_: Request
) -> None:
    """S21 in one expression, without index, order or fast path."""
    http, tcp, udp = decisions(
        replace(inbound, mode=Mode.ENFORCE, same_service_account=False), peer, port, request_
    )
    if peer is None:
        return

    def named(item: Grant) -> bool:
        return (peer.identity in item.sources or peer.pod in item.source_pods) and item.port in (None, port)

    mine = [item for item in inbound.grants if named(item)]
    assert isinstance(udp, Permit) == any(item.udp is not None and port in item.udp for item in mine)
    assert isinstance(tcp, Permit) == any(
        item.tcp is not None and port in item.tcp and item.http is None for item in mine
    )
    assert isinstance(http, Permit) == any(
        (item.tcp is not None or item.http is not None)
        and (item.tcp is None or port in item.tcp)
        and (item.http is None or any(read_aloud(match, request_) for match in item.http))
        for item in mine
    )


def read_aloud(match: RouteMatch, request: Request) -> bool:
    """S16, S17 with Python's own `re`, whose syntax agrees on the patterns used here."""
    import re

    def value(name: str) -> str | None:
        if name == "host":
            return request.host.decode() or None
        lines = [line.decode() for key, line in request.headers if key.decode() == name]
        return ", ".join(lines) if lines else None

    anchored = re.fullmatch if match.regex == "full" else re.match
    return (
        (not match.methods or request.method.decode() in match.methods)
        and (match.path is None or anchored(match.path, request.path.decode()) is not None)
        and all((found := value(name)) is not None and re.search(p, found) for name, p in match.headers)
    )
