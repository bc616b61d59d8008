"""S4, S8-S10, S16-S18, S22-S24, R1-R5, R7, R11, R13, R14: one object → policy and findings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.api import Parsed, parse
from smi.api.hub import Subject
from smi.findings import Finding, Reason, Severity
from smi.lower import (
    MAX_HEADER_FILTERS,
    MAX_MATCHES,
    LoweredSplit,
    LoweredTarget,
    lower_identity_binding,
    lower_route_group,
    lower_tcp_route,
    lower_traffic_split,
    lower_traffic_target,
    lower_udp_route,
    service_name,
    validate,
)
from smi.names import NamespacedName
from smi.policy.snapshot import PortSet, Regex, RouteMatch
from tests.smi.objects import A_FEW, KIND_VERSIONS, Doc, damaged_objects, smi_object, split


def value(obj: Doc) -> Any:
    outcome = parse(obj)
    assert isinstance(outcome, Parsed), outcome
    return outcome.value


def shop(name: str) -> NamespacedName:
    return NamespacedName("shop", name)


def said(findings: tuple[Finding, ...]) -> list[tuple[Reason, str]]:
    return [(finding.reason, finding.field) for finding in findings]


# --- HTTPRouteGroup ---------------------------------------------------------------------------


def group(*matches: Doc) -> Any:
    return value(smi_object("HTTPRouteGroup", "v1alpha4", "routes", spec={"matches": list(matches)}))


def test_s16_s17_a_match() -> None:
    written = {"name": "m", "pathRegex": "/a", "methods": ["GET", "PUT"], "headers": {"X-B": "2", "x-a": "1"}}
    assert lower_route_group(group(written), Regex.FULL) == (
        (
            RouteMatch(
                "shop/routes", "m", "/a", frozenset({"GET", "PUT"}), (("x-a", "1"), ("x-b", "2")), Regex.FULL
            ),
        ),
        (),
    )


@pytest.mark.parametrize("methods", [None, [], ["*"], ["GET", "*"]])
def test_s17_empty_or_star_means_any_method(methods: object) -> None:
    matches, findings = lower_route_group(group({"name": "m", "methods": methods}))
    assert (matches[0].methods, findings) == (frozenset(), ())


def test_r7_methods_are_folded_to_upper_case_with_a_warning() -> None:
    matches, findings = lower_route_group(group({"name": "m", "methods": ["get", "PUT"]}))
    assert matches[0].methods == {"GET", "PUT"}
    assert [(finding.reason, finding.severity) for finding in findings] == [
        (Reason.METHOD_CASE, Severity.WARNING)
    ]


def test_a_method_that_no_request_can_have_does_not_become_any_method() -> None:
    matches, findings = lower_route_group(group({"name": "m", "methods": ["GET POST"]}))
    assert matches[0].methods == {"GET POST"}
    assert said(findings) == [(Reason.INVALID, "spec.matches[0].methods")]


def test_r3_a_bad_pattern_quarantines_its_match_not_the_group() -> None:
    matches, findings = lower_route_group(
        group({"name": "bad", "pathRegex": "("}, {"name": "good"}, {"name": "worse", "headers": {"x": "["}})
    )
    assert [match.name for match in matches] == ["good"]
    assert said(findings) == [
        (Reason.INVALID_PATTERN, "spec.matches[0].pathRegex"),
        (Reason.INVALID_PATTERN, "spec.matches[2].headers.x"),
    ]
    assert "match 'bad' is off" in findings[0].message


def test_s18_count_is_bounded() -> None:
    matches, findings = lower_route_group(group(*({"name": f"m{n}"} for n in range(MAX_MATCHES + 1))))
    assert len(matches) == MAX_MATCHES
    assert said(findings) == [(Reason.INVALID, "spec.matches")]
    headers = {f"h{n}": "x" for n in range(MAX_HEADER_FILTERS + 1)}
    assert lower_route_group(group({"name": "m", "headers": headers}))[0] == ()


# --- TCPRoute, UDPRoute -----------------------------------------------------------------------


@pytest.mark.parametrize("spec", [{}, {"matches": {}}, {"matches": {"ports": []}}])
def test_s24_routes_without_ports_mean_all_ports(spec: Doc) -> None:
    assert lower_tcp_route(value(smi_object("TCPRoute", "v1alpha4", spec=spec))) == (PortSet(every=True), ())
    assert lower_udp_route(value(smi_object("UDPRoute", "v1alpha4", spec=spec))) == (PortSet(every=True), ())


def test_s24_old_tcp_routes_mean_all_ports() -> None:
    for version in ("v1alpha1", "v1alpha2", "v1alpha3"):
        assert lower_tcp_route(value(smi_object("TCPRoute", version)))[0].every


def test_ports_of_a_route() -> None:
    route = value(smi_object("TCPRoute", "v1alpha4", spec={"matches": {"ports": [80, 81, 80]}}))
    assert lower_tcp_route(route)[0] == PortSet(ports=frozenset({80, 81}))


# --- TrafficTarget ----------------------------------------------------------------------------

READ = RouteMatch("shop/routes", "read", "/items", frozenset({"GET"}), ())
WRITE = RouteMatch("shop/routes", "write", "/items", frozenset({"PUT"}), ())
GROUPS = {shop("routes"): (READ, WRITE), shop("empty"): ()}
TCP = {shop("web"): PortSet(ports=frozenset({80})), shop("any"): PortSet(every=True)}
UDP = {shop("dns"): PortSet(ports=frozenset({53}))}
WEB = {"kind": "ServiceAccount", "name": "web"}
API = {"kind": "ServiceAccount", "name": "api"}


def rule(kind: str, name: str, *matches: str) -> Doc:
    return {"kind": kind, "name": name, **({"matches": list(matches)} if matches else {})}


def lowered(*rules: Doc, **spec: Any) -> tuple[LoweredTarget | None, tuple[Finding, ...]]:
    spec = {"destination": API, "sources": [WEB], "rules": list(rules), **spec}
    target = value(smi_object("TrafficTarget", "v1alpha3", spec=spec))
    return lower_traffic_target(target, GROUPS, TCP, UDP)


def granted(*rules: Doc, **spec: Any) -> LoweredTarget:
    target, _ = lowered(*rules, **spec)
    assert target is not None
    return target


def test_s21_rules_by_kind() -> None:
    target = granted(
        rule("HTTPRouteGroup", "routes", "read"), rule("TCPRoute", "web"), rule("UDPRoute", "dns")
    )
    assert (target.http, target.tcp, target.udp) == ((READ,), TCP[shop("web")], UDP[shop("dns")])
    assert (str(target.name), target.destination) == ("shop/thing", Subject("ServiceAccount", "shop", "api"))
    assert target.sources == (Subject("ServiceAccount", "shop", "web"),)


def test_s21_a_kind_of_rule_the_target_does_not_have_is_none() -> None:
    target = granted(rule("HTTPRouteGroup", "routes"))
    assert (target.http, target.tcp, target.udp) == ((READ, WRITE), None, None)


def test_r1_several_tcp_routes_add_up() -> None:
    assert granted(rule("TCPRoute", "web"), rule("TCPRoute", "any")).tcp == PortSet(True, frozenset({80}))


def test_several_groups_add_up_and_repeat_nothing() -> None:
    assert granted(rule("HTTPRouteGroup", "routes"), rule("HTTPRouteGroup", "routes", "read")).http == (
        READ,
        WRITE,
    )


def test_r2_in_matches_the_good_name_grants_and_the_typo_is_named() -> None:
    target, findings = lowered(rule("HTTPRouteGroup", "routes", "read", "raed"))
    assert target is not None
    assert target.http == (READ,)
    assert said(findings) == [(Reason.MATCH_NOT_FOUND, "spec.rules[0].matches[1]")]
    assert "'raed'" in findings[0].message


@pytest.mark.parametrize(
    ("rules", "http", "tcp"),
    [
        ((rule("HTTPRouteGroup", "nope"),), (), None),
        ((rule("TCPRoute", "nope"),), None, PortSet()),
        # A missing half never widens a grant.
        ((rule("HTTPRouteGroup", "nope"), rule("TCPRoute", "any")), (), PortSet(every=True)),
        ((rule("HTTPRouteGroup", "routes"), rule("TCPRoute", "nope")), (READ, WRITE), PortSet()),
        # A resolved sibling of its own kind still counts (S22).
        ((rule("HTTPRouteGroup", "nope"), rule("HTTPRouteGroup", "routes", "read")), (READ,), None),
        ((rule("TCPRoute", "nope"), rule("TCPRoute", "web")), None, TCP[shop("web")]),
        ((rule("HTTPRouteGroup", "routes", "nope"),), (), None),
        ((rule("HTTPRouteGroup", "empty"),), (), None),
    ],
)
def test_r2_an_unresolved_rule_keeps_its_place_and_matches_nothing(
    rules: tuple[Doc, ...], http: object, tcp: object
) -> None:
    target = granted(*rules)
    assert (target.http, target.tcp) == (http, tcp)


def test_s22_missing_routes_are_named() -> None:
    _, findings = lowered(rule("HTTPRouteGroup", "nope"), rule("TCPRoute", "nope"), rule("UDPRoute", "nope"))
    assert said(findings) == [(Reason.ROUTE_NOT_FOUND, f"spec.rules[{n}].name") for n in range(3)]
    assert "HTTPRouteGroup shop/nope" in findings[0].message


def test_r2_a_rule_of_an_unknown_kind_does_not_widen_its_siblings() -> None:
    target, findings = lowered(rule("TCPRoute", "any"), rule("GRPCRoute", "x"))
    assert target is not None
    assert target.http == ()
    assert said(findings) == [(Reason.UNKNOWN_KIND, "spec.rules[1].kind")]


def test_s22_no_rules_or_no_sources_grant_nothing() -> None:
    target, findings = lowered()
    assert (target, said(findings)) == (None, [(Reason.NO_RULES, "spec.rules")])
    target, findings = lowered(rule("TCPRoute", "any"), sources=[])
    assert (target, said(findings)) == (None, [(Reason.NO_SOURCES, "spec.sources")])


def test_s22_r14_hold_for_old_versions() -> None:
    for version, where in (("v1alpha1", {"destination": API}), ("v1alpha2", {"spec": {"destination": API}})):
        target, findings = lower_traffic_target(
            value(smi_object("TrafficTarget", version, **where)), {}, {}, {}
        )
        assert target is None
        assert {finding.reason for finding in findings} == {Reason.NO_RULES, Reason.NO_SOURCES}


def test_s23_a_target_outside_its_destinations_namespace_grants_nothing() -> None:
    target, findings = lowered(rule("TCPRoute", "any"), destination={**API, "namespace": "other"})
    assert (target, said(findings)) == (None, [(Reason.WRONG_NAMESPACE, "spec.destination.namespace")])
    assert "'other'" in findings[0].message


def test_s23_sources_may_be_of_any_namespace() -> None:
    assert granted(rule("TCPRoute", "any"), sources=[{**WEB, "namespace": "front"}]).sources == (
        Subject("ServiceAccount", "front", "web"),
    )


def test_unknown_subject_kinds_allow_nobody() -> None:
    user = {"kind": "User", "name": "me"}
    target, findings = lowered(rule("TCPRoute", "any"), sources=[user, WEB])
    assert target is not None
    assert [source.name for source in target.sources] == ["web"]
    assert said(findings) == [(Reason.UNKNOWN_KIND, "spec.sources[0].kind")]
    assert lowered(rule("TCPRoute", "any"), sources=[user])[0] is None
    assert lowered(rule("TCPRoute", "any"), destination=user)[0] is None


# --- IdentityBinding --------------------------------------------------------------------------


def binding(**schemes: Any) -> Any:
    return value(smi_object("IdentityBinding", "v1alpha4", spec={"schemes": schemes}))


def test_r11_schemes_are_ored() -> None:
    lowered_, findings = lower_identity_binding(
        binding(
            serviceAccount="api", spiffeIdentities=["cluster.local/ns/shop/sa/web", "spiffe://Other.org/x/y"]
        )
    )
    assert lowered_.identities == {
        "spiffe://cluster.local/ns/shop/sa/api",
        "spiffe://cluster.local/ns/shop/sa/web",
        "spiffe://other.org/x/y",
    }
    assert (lowered_.pod_labels, findings) == (None, ())


def test_r11_selector_and_service_account_together_are_accepted_with_a_warning() -> None:
    lowered_, findings = lower_identity_binding(
        binding(serviceAccount="api", podLabelSelector={"matchLabels": {"a": "1"}})
    )
    assert lowered_.identities
    assert lowered_.pod_labels == (("a", "1"),)
    assert [(finding.reason, finding.severity) for finding in findings] == [
        (Reason.SCHEMES_OVERLAP, Severity.WARNING)
    ]


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ("cluster.local/ns/other/sa/web", Reason.FOREIGN_IDENTITY),
        ("spiffe://CLUSTER.LOCAL/ns/other/sa/web", Reason.FOREIGN_IDENTITY),
        ("cluster.local/ns/shop/sa/web/more", Reason.FOREIGN_IDENTITY),
        ("cluster.local/anything", Reason.FOREIGN_IDENTITY),
        ("cluster.local", Reason.INVALID),
        ("cluster.local/ns//sa/web", Reason.INVALID),
        ("other.org/a/../b", Reason.INVALID),
        ("other.org/a b", Reason.INVALID),
        ("http://other.org/x", Reason.INVALID),
    ],
)
def test_r11_identities_of_another_namespace_of_our_own_trust_domain_are_refused(
    identity: str, reason: Reason
) -> None:
    lowered_, findings = lower_identity_binding(binding(spiffeIdentities=[identity]))
    assert lowered_.identities == frozenset()
    assert said(findings) == [(reason, "spec.schemes.spiffeIdentities[0]")]


def test_a_binding_without_schemes_stands_for_nobody() -> None:
    lowered_, findings = lower_identity_binding(binding())
    assert (lowered_.identities, lowered_.pod_labels) == (frozenset(), None)
    assert said(findings) == [(Reason.INVALID, "spec.schemes")]


# --- TrafficSplit -----------------------------------------------------------------------------


def split_of(obj: Doc) -> tuple[LoweredSplit | None, tuple[Finding, ...]]:
    return lower_traffic_split(value(obj), GROUPS)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("api", "shop/api"),
        ("API", "shop/api"),
        ("api.", "shop/api"),
        ("api.shop", "shop/api"),
        ("api.other", "other/api"),
        ("api.shop.svc", "shop/api"),
        ("Api.Shop.Svc.Cluster.Local.", "shop/api"),
        ("api.shop.svc.example.com", None),
        ("api.shop.pod", None),
        ("api..shop", None),
        ("", None),
        (".", None),
        ("api:80", None),
        ("shop/api", None),
    ],
)
def test_s4_names_of_a_service(text: str, name: str | None) -> None:
    found = service_name(text, "shop", "cluster.local")
    assert (str(found) if found else None) == name


def test_s4_r13_root_and_backends_may_use_the_long_form() -> None:
    found, findings = split_of(
        split(("api-v1.shop", 9), ("api-v2.shop.svc.cluster.local", 1), service="api.shop.svc")
    )
    assert found is not None
    assert (found.root, found.backends) == (shop("api"), ((shop("api-v1"), 9), (shop("api-v2"), 1)))
    assert (found.matches, found.fallback_root, findings) == (None, False, ())


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (split(("a", 1), service="api.other"), "spec.service"),
        (split(("a", 1), ("b.other", 1)), "spec.backends[1].service"),
        (split(("a b.c.d", 1)), "spec.backends[0].service"),
    ],
)
def test_r3_r13_a_split_that_names_another_namespace_is_as_if_absent(obj: Doc, field: str) -> None:
    found, findings = split_of(obj)
    assert found is None
    assert (Reason.INVALID, field) in said(findings)


def test_s8_all_weights_zero_is_a_warning() -> None:
    found, findings = split_of(split(("a", 0), ("b", 0)))
    assert found is not None
    assert [(finding.reason, finding.severity) for finding in findings] == [
        (Reason.ALL_WEIGHTS_ZERO, Severity.WARNING)
    ]
    assert "503" in findings[0].message


def test_s8_r5_fallback_annotation() -> None:
    obj = split(("a", 0))
    obj["metadata"]["annotations"] = {"smi-mesh.io/fallback": "root"}
    found, findings = split_of(obj)
    assert found is not None
    assert found.fallback_root
    assert "the root gets all calls" in findings[0].message
    obj["metadata"]["annotations"] = {"smi-mesh.io/fallback": "yes"}
    found, findings = split_of(obj)
    assert found is not None
    assert not found.fallback_root
    assert findings[0].reason is Reason.UNKNOWN_SETTING


def test_s10_the_root_among_its_backends_is_accepted_with_a_warning() -> None:
    found, findings = split_of(split(("api-next", 100), ("API.shop", 900)))
    assert found is not None
    assert found.backends[1] == (shop("api"), 900)
    assert [(finding.reason, finding.severity, finding.field) for finding in findings] == [
        (Reason.ROOT_AMONG_BACKENDS, Severity.WARNING, "spec.backends[1].service")
    ]


def reference(name: str, kind: str = "HTTPRouteGroup") -> Doc:
    return {"kind": kind, "name": name}


def test_s9_several_groups_merge_into_one() -> None:
    groups = {shop("a"): (READ,), shop("b"): (WRITE, READ)}
    obj = split(("x", 1), matches=[reference("a"), reference("b")])
    found, _ = lower_traffic_split(value(obj), groups)
    assert found is not None
    assert found.matches == (READ, WRITE)


@pytest.mark.parametrize("name", ["nope", "empty"])
def test_r3_a_split_whose_only_group_is_missing_never_becomes_a_catch_all(name: str) -> None:
    found, _ = split_of(split(("x", 1), matches=[reference(name)]))
    assert found is not None
    assert found.matches == ()


def test_r3_a_missing_group_is_named_and_the_others_count() -> None:
    found, findings = split_of(
        split(("x", 1), matches=[reference("nope"), reference("routes"), reference("t", "TCPRoute")])
    )
    assert found is not None
    assert found.matches == (READ, WRITE)
    assert said(findings) == [
        (Reason.ROUTE_NOT_FOUND, "spec.matches[0].name"),
        (Reason.UNKNOWN_KIND, "spec.matches[2].kind"),
    ]


# --- admission --------------------------------------------------------------------------------


def refused(obj: Doc) -> list[Reason]:
    return [finding.reason for finding in validate(obj) if finding.severity is Severity.ERROR]


@pytest.mark.parametrize(
    ("obj", "reasons"),
    [
        (split(("a", -1)), [Reason.INVALID_WEIGHT]),  # S3
        (split(("a", "x"), version="v1alpha1"), [Reason.INVALID_WEIGHT]),  # S3
        (
            smi_object("HTTPRouteGroup", "v1alpha4", spec={"matches": [{"name": "m", "pathRegex": "("}]}),
            [Reason.INVALID_PATTERN],  # S18
        ),
        (
            smi_object(
                "IdentityBinding",
                "v1alpha4",
                spec={"schemes": {"spiffeIdentities": ["cluster.local/ns/b/sa/c"]}},
            ),
            [Reason.FOREIGN_IDENTITY],  # R11
        ),
        (split(("a.other", 1)), [Reason.INVALID]),  # R13
        (smi_object("TrafficSplit", "v1alpha4"), [Reason.INVALID]),
    ],
)
def test_admission_refuses_what_no_later_object_can_mend(obj: Doc, reasons: list[Reason]) -> None:
    assert refused(obj) == reasons


@pytest.mark.parametrize(
    ("obj", "reasons"),
    [
        (split(("not-yet-there", 1)), []),  # S6
        (split(("a", 0)), [Reason.ALL_WEIGHTS_ZERO]),  # S8
        (split(("api", 1)), [Reason.ROOT_AMONG_BACKENDS]),  # S10
        (split(("a", 1), matches=[reference("not-yet-there")]), []),
        (
            smi_object("TrafficTarget", "v1alpha3", spec={"destination": API}),
            [Reason.NO_SOURCES, Reason.NO_RULES],  # S22
        ),
        (
            smi_object(
                "TrafficTarget",
                "v1alpha3",
                spec={
                    "destination": {**API, "namespace": "other"},
                    "sources": [WEB],
                    "rules": [rule("TCPRoute", "not-yet-there")],
                },
            ),
            [Reason.WRONG_NAMESPACE],  # S23
        ),
        (smi_object("HTTPRouteGroup", "v1alpha4", matches=[{"name": "m"}]), [Reason.TOP_LEVEL_MATCHES]),  # S2
        (smi_object("UDPRoute", "v1alpha4"), []),
    ],
)
def test_admission_lets_pass_with_a_warning_what_is_a_matter_of_status(
    obj: Doc, reasons: list[Reason]
) -> None:
    findings = validate(obj)
    assert refused(obj) == []
    assert [finding.reason for finding in findings] == reasons


@pytest.mark.parametrize(("kind", "version"), KIND_VERSIONS)
@A_FEW
@given(data=st.data())
def test_validate_never_raises(kind: str, version: str, data: st.DataObject) -> None:
    for finding in validate(data.draw(damaged_objects(kind, version))):
        assert finding.message
