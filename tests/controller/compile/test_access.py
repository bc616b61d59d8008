"""TrafficTargets on pods: S20-S29, R1, R2, R9-R11, R14."""

from __future__ import annotations

import pytest

from controller.compile.snapshot import Snapshot
from smi.findings import ObjectRef, Reason
from smi.policy.snapshot import Grant, InboundPort, Mode, Mtls, PortSet, Probe, Protocol
from tests.controller.compile import build
from tests.controller.compile.build import Obj, snapshot_of

API = build.workload("api", "10.1.0.1")
WEB = build.workload("web", "10.1.0.2")
ROUTES = build.route_group(
    "items",
    {"name": "read", "pathRegex": "/items", "methods": ["GET"]},
    {"name": "write", "methods": ["POST"]},
)
WEB_ID = "spiffe://cluster.local/ns/shop/sa/web"


def spiffe(account: str, ns: str = "shop") -> str:
    return f"spiffe://cluster.local/ns/{ns}/sa/{account}"


def grants(*objects: Obj, pod: str = "shop/api-0") -> tuple[Grant, ...]:
    return snapshot_of(*API, *WEB, ROUTES, *objects).inbound[pod].grants


def accepted(snapshot: Snapshot, name: str = "t") -> tuple[bool, str]:
    ref = ObjectRef("access.smi-spec.io", "TrafficTarget", "shop", name)
    return next(
        (known.status, known.reason)
        for known in snapshot.conditions[ref].conditions
        if known.type == "Accepted"
    )


def verdict(*objects: Obj, name: str = "t") -> tuple[bool, str]:
    return accepted(snapshot_of(*API, *WEB, ROUTES, *objects), name)


def test_nothing_is_allowed_by_default() -> None:
    inbound = snapshot_of(*API).inbound["shop/api-0"]
    assert inbound.grants == ()
    assert (inbound.mode, inbound.mtls, inbound.same_service_account) == (Mode.ENFORCE, Mtls.STRICT, False)
    assert inbound.identity == spiffe("api")


def test_only_meshed_pods_enforce() -> None:
    assert snapshot_of(build.pod("plain", "10.1.0.1", meshed=False)).inbound == {}


def test_routes_for_a_source() -> None:
    objects = [build.target("t", "api", ["web", "bank/teller"], [build.http_rule("items", "read")])]
    (grant,) = grants(*objects)
    assert grant.target == "shop/t"
    assert grant.sources == {WEB_ID, spiffe("teller", "bank")}
    assert (grant.tcp, grant.udp, grant.port) == (None, None, None)
    assert [(match.group, match.name, match.path) for match in grant.http or ()] == [
        ("shop/items", "read", "/items")
    ]
    assert grants(*objects, pod="shop/web-0") == ()
    assert verdict(*objects) == (True, "Accepted")


def test_a_rule_without_matches_means_all_of_them() -> None:
    (grant,) = grants(build.target("t", "api", ["web"], [build.http_rule("items")]))
    assert [match.name for match in grant.http or ()] == ["read", "write"]


def test_ports_and_routes_are_both() -> None:
    rules = [
        build.http_rule("items", "read"),
        {"kind": "TCPRoute", "name": "p"},
        {"kind": "TCPRoute", "name": "q"},
    ]
    (grant,) = grants(
        build.target("t", "api", ["web"], rules), build.tcp_route("p", 8080), build.tcp_route("q", 9000)
    )
    assert grant.tcp == PortSet(ports=frozenset({8080, 9000}))
    assert len(grant.http or ()) == 1


def test_a_tcp_route_without_ports_is_every_port() -> None:
    (grant,) = grants(
        build.target("t", "api", ["web"], [{"kind": "TCPRoute", "name": "p"}]), build.tcp_route("p")
    )
    assert grant.tcp is not None
    assert grant.tcp.every


def test_a_udp_route_concerns_udp_only() -> None:
    route = build.smi("UDPRoute", "v1alpha4", "dns", {"matches": {"ports": [53]}})
    (grant,) = grants(build.target("t", "api", ["web"], [{"kind": "UDPRoute", "name": "dns"}]), route)
    assert grant.udp == PortSet(ports=frozenset({53}))
    assert (grant.tcp, grant.http) == (None, None)


def test_an_unknown_match_keeps_its_sibling() -> None:
    objects = [build.target("t", "api", ["web"], [build.http_rule("items", "read", "typo")])]
    (grant,) = grants(*objects)
    assert [match.name for match in grant.http or ()] == ["read"]
    assert verdict(*objects) == (False, "MatchNotFound")


def test_a_missing_half_never_widens() -> None:
    rules = [build.http_rule("items", "read"), {"kind": "TCPRoute", "name": "gone"}]
    objects = [build.target("t", "api", ["web"], rules)]
    for grant in grants(*objects):
        assert grant.tcp is not None
        assert not grant.tcp.every
        assert not grant.tcp.ports
    assert verdict(*objects) == (False, "RouteNotFound")


@pytest.mark.parametrize(
    ("rules", "sources", "reason"),
    [
        ([], ["web"], "NoRules"),
        ([build.http_rule("items")], [], "NoSources"),
        ([build.http_rule("x")], ["web"], "RouteNotFound"),
    ],
)
def test_what_grants_nothing_says_why(rules: list[Obj], sources: list[str], reason: str) -> None:
    objects = [build.target("t", "api", sources, rules)]
    for grant in grants(*objects):
        assert not (grant.sources and (grant.http or grant.tcp))
    assert verdict(*objects) == (False, reason)


def test_a_target_outside_its_destinations_namespace() -> None:
    objects = [build.target("t", "api", ["shop/web"], [build.http_rule("items")], ns="bank", to_ns="shop")]
    assert grants(*objects) == ()
    found = snapshot_of(*API, *objects)
    ref = ObjectRef("access.smi-spec.io", "TrafficTarget", "bank", "t")
    assert found.conditions[ref].conditions[0].reason == "WrongNamespace"
    assert found.conditions[ref].pods == frozenset()


def test_an_empty_destination_namespace_is_the_targets_own() -> None:
    (grant,) = grants(build.target("t", "api", ["web"], [build.http_rule("items")], to_ns=""))
    assert grant.sources == {WEB_ID}


def test_concerned_pods_of_a_target_and_of_what_it_uses() -> None:
    found = snapshot_of(*API, *WEB, ROUTES, build.target("t", "api", ["web"], [build.http_rule("items")]))
    for kind, group, name in (("TrafficTarget", "access", "t"), ("HTTPRouteGroup", "specs", "items")):
        assert found.conditions[ObjectRef(f"{group}.smi-spec.io", kind, "shop", name)].pods == {"shop/api-0"}


def test_namespace_posture() -> None:
    mesh = build.settings(mode="audit", sameServiceAccount="allow")
    inbound = snapshot_of(*API, mesh, build.namespace("shop", mtls="permissive")).inbound["shop/api-0"]
    assert (inbound.mode, inbound.mtls, inbound.same_service_account) == (Mode.AUDIT, Mtls.PERMISSIVE, True)
    inbound = snapshot_of(*API, mesh, build.namespace("shop", mode="enforce")).inbound["shop/api-0"]
    assert inbound.mode is Mode.ENFORCE


def test_ports_and_probes_of_a_pod() -> None:
    container = {
        "ports": [{"containerPort": 8080, "name": "tcp-web"}, {"containerPort": 9000, "name": "grpc"}],
        "livenessProbe": {"httpGet": {"port": 8080, "path": "/live"}},
    }
    inbound = snapshot_of(
        build.service("api", [{"port": 80, "name": "http"}]),
        build.pod("api-0", "10.1.0.1", containers=[container]),
        build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")], [{"port": 8080, "name": "http"}]),
    ).inbound["shop/api-0"]
    assert inbound.ports == (
        InboundPort(8080, Protocol.HTTP, "shop/api"),
        InboundPort(9000, Protocol.GRPC),
    )
    assert inbound.probes == (Probe(8080, "/live"),)


def test_services_that_disagree_leave_it_to_the_proxy() -> None:
    slices = [
        build.endpoint_slice(name, [build.endpoint("api-0", "10.1.0.1")], [{"port": 8080, "name": name}])
        for name in ("http", "tcp")
    ]
    services = [build.service(name, [{"port": 80, "name": name}]) for name in ("http", "tcp")]
    inbound = snapshot_of(*services, build.pod("api-0", "10.1.0.1"), *slices).inbound["shop/api-0"]
    assert inbound.ports == (InboundPort(8080, Protocol.DETECT, "shop/tcp"),)


def test_a_service_port_in_a_tcp_route_is_pointed_out() -> None:
    objects = [
        build.target("t", "api", ["web"], [{"kind": "TCPRoute", "name": "p"}]),
        build.tcp_route("p", 80),
    ]
    assert verdict(*objects) == (True, "ServicePortAsPodPort")
    found = snapshot_of(*API, *WEB, *objects)
    assert any("8080" in finding.message for finding in found.findings)
    assert verdict(objects[0], build.tcp_route("p", 8080)) == (True, "Accepted")
    assert verdict(objects[0], build.tcp_route("p", 7777)) == (True, "Accepted")


def bound(binding: Obj, *, side: str, account: str = "web") -> Obj:
    """A v1alpha4 TrafficTarget with an IdentityBinding on one side and a ServiceAccount on the other."""
    subject = {"kind": "IdentityBinding", "name": binding["metadata"]["name"], "namespace": "shop"}
    plain = {"kind": "ServiceAccount", "name": account, "namespace": "shop"}
    destination, source = (subject, plain) if side == "destination" else (plain, subject)
    spec = {"destination": destination, "sources": [source], "rules": [build.http_rule("items")]}
    return build.smi("TrafficTarget", "v1alpha4", "t", spec)


def test_bindings_as_sources() -> None:
    labels = build.identity_binding("b", {"podLabelSelector": {"matchLabels": {"app": "caller"}}})
    callers = [build.pod("caller-0", "10.1.0.7", labels={"app": "caller"}), build.pod("other", "10.1.0.8")]
    plain = build.pod("caller-1", "10.1.0.9", labels={"app": "caller"}, meshed=False)
    (grant,) = grants(labels, bound(labels, side="source", account="api"), *callers, plain)
    assert grant.source_pods == {"shop/caller-0"}
    assert grant.sources == frozenset()
    account = build.identity_binding("b", {"serviceAccount": "web"})
    (grant,) = grants(account, bound(account, side="source", account="api"))
    assert grant.sources == {WEB_ID}
    foreign = build.identity_binding("b", {"spiffeIdentities": ["spiffe://other.org/billing"]})
    (grant,) = grants(foreign, bound(foreign, side="source", account="api"))
    assert grant.sources == {"spiffe://other.org/billing"}


def test_bindings_as_destinations() -> None:
    binding = build.identity_binding(
        "b", {"podLabelSelector": {"matchLabels": {"app": "x"}}, "serviceAccount": "api"}
    )
    labelled = build.pod("x-0", "10.1.0.7", labels={"app": "x"}, sa="x")
    elsewhere = build.pod("x-0", "10.1.0.8", ns="bank", labels={"app": "x"}, sa="x")
    objects = [binding, bound(binding, side="destination"), labelled, elsewhere]
    assert [grant.target for grant in grants(*objects)] == ["shop/t"]
    assert [grant.target for grant in grants(*objects, pod="shop/x-0")] == ["shop/t"]
    assert grants(*objects, pod="bank/x-0") == ()
    found = snapshot_of(*API, *WEB, ROUTES, *objects)
    ref = ObjectRef("access.smi-spec.io", "IdentityBinding", "shop", "b")
    assert found.conditions[ref].pods == {"shop/api-0", "shop/x-0"}
    assert Reason.SCHEMES_OVERLAP in {finding.reason for finding in found.findings}


def test_a_missing_binding_and_a_foreign_identity_of_our_own_domain() -> None:
    binding = build.identity_binding("b", {"spiffeIdentities": [spiffe("teller", "bank")]})
    target = bound(binding, side="source", account="api")
    assert verdict(target) == (False, "IdentityNotFound")
    assert all(not grant.sources for grant in grants(target))
    found = snapshot_of(*API, ROUTES, target, binding)
    assert all(not grant.sources for grant in found.inbound["shop/api-0"].grants)
    assert Reason.FOREIGN_IDENTITY in {finding.reason for finding in found.findings}


def test_destination_port_of_the_old_versions() -> None:
    old = {
        "apiVersion": "access.smi-spec.io/v1alpha2",
        "kind": "TrafficTarget",
        "metadata": {"name": "t", "namespace": "shop"},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": "api", "namespace": "shop", "port": 8080},
            "sources": [{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}],
            "rules": [build.http_rule("items")],
        },
    }
    (grant,) = grants(old)
    assert grant.port == 8080


def test_pods_of_one_workload_share_their_grants() -> None:
    more = build.pod("api-1", "10.1.0.5", sa="api")
    found = snapshot_of(*API, more, ROUTES, build.target("t", "api", ["web"], [build.http_rule("items")]))
    assert found.inbound["shop/api-0"].grants is found.inbound["shop/api-1"].grants
