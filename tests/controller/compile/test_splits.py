"""TrafficSplits on Services: S3-S12, S15, R3-R6, R13."""

from __future__ import annotations

import pytest

from controller.compile.snapshot import Snapshot
from smi.findings import ObjectRef, Reason
from smi.policy.snapshot import Backend, Destination, Protocol
from tests.controller.compile import build
from tests.controller.compile.build import Obj, snapshot_of

TWO = [build.service("api", ip="10.96.0.1"), build.service("v1"), build.service("v2")]


def ref(name: str) -> ObjectRef:
    return ObjectRef("split.smi-spec.io", "TrafficSplit", "shop", name)


def reasons(snapshot: Snapshot, name: str = "s") -> set[Reason]:
    return {finding.reason for finding in snapshot.findings if finding.ref == ref(name)}


def condition(snapshot: Snapshot, kind: str, name: str = "s") -> tuple[bool, str] | None:
    found = {known.type: (known.status, known.reason) for known in snapshot.conditions[ref(name)].conditions}
    return found.get(kind)


def test_a_service_without_split_leads_to_itself() -> None:
    found = snapshot_of(build.service("api", [{"port": 80, "name": "http"}], ip="10.96.0.1"))
    assert found.destinations == {"shop/api:80": Destination("shop/api", 80, Protocol.HTTP, "shop/api:80")}
    assert found.addresses == {"10.96.0.1:80": "shop/api:80"}
    assert found.clusters == {"shop/api:80": ()}


def test_a_canary() -> None:
    found = snapshot_of(*TWO, build.split("s", "api", {"v1": 90, "v2": 10}))
    (only,) = found.destinations["shop/api:80"].splits
    assert only.name == "shop/s"
    assert only.matches is None
    assert only.backends == (Backend("shop/v1", 90, "shop/v1:80"), Backend("shop/v2", 10, "shop/v2:80"))
    assert found.destinations["shop/v1:80"].splits == ()
    assert found.findings == ()
    assert condition(found, "Accepted") == condition(found, "Accepted") == (True, "Accepted")
    assert condition(found, "BackendsResolved") == condition(found, "ResolvedRefs") == (True, "Resolved")
    assert condition(found, "Conflicted") is None
    assert found.conditions[ref("s")].destinations == {"shop/api:80"}


@pytest.mark.parametrize("root", ["api", "API.shop", "api.shop.svc", "api.shop.svc.cluster.local."])
def test_long_forms_of_root_and_backend(root: str) -> None:
    found = snapshot_of(*TWO, build.split("s", root, {"v1.shop.svc.cluster.local": 1}))
    assert found.destinations["shop/api:80"].splits[0].backends == (Backend("shop/v1", 1, "shop/v1:80"),)
    assert found.findings == ()


def test_another_namespaces_services_are_not_ours_to_split() -> None:
    there = [build.service("api", ns="bank"), build.service("v1", ns="bank")]
    found = snapshot_of(
        *TWO, *there, build.split("s", "api.bank", {"v1": 1}), build.split("b", "api", {"v1.bank": 1})
    )
    assert found.destinations["bank/api:80"].splits == ()
    assert condition(found, "Accepted") == (False, "Invalid")
    assert condition(found, "Accepted", "b") == (False, "Invalid")


def test_a_backend_takes_part_port_by_port() -> None:
    ports = [{"port": 80, "targetPort": 8080}, {"port": 9000, "targetPort": 9000}]
    dns = [{"port": 80}, {"port": 9000, "protocol": "UDP"}]
    found = snapshot_of(
        build.service("api", ports),
        build.service("v1", [{"port": 8080}, *ports[1:]]),
        build.service("v2", dns),
        build.split("s", "api", {"v1": 1, "v2": 2}),
    )
    assert [known.service for known in found.destinations["shop/api:80"].splits[0].backends] == ["shop/v2"]
    assert [known.service for known in found.destinations["shop/api:9000"].splits[0].backends] == ["shop/v1"]
    assert condition(found, "BackendsResolved") == (False, "PortMismatch")
    assert condition(found, "Accepted") == (True, "Accepted")
    said = [finding.message for finding in found.findings]
    assert any("v1" in message and "80" in message for message in said)
    assert any("v2" in message and "9000" in message for message in said)


def test_a_missing_backend_is_a_normal_state() -> None:
    found = snapshot_of(*TWO, build.split("s", "api", {"v1": 1, "soon": 1}))
    assert [known.service for known in found.destinations["shop/api:80"].splits[0].backends] == ["shop/v1"]
    assert condition(found, "BackendsResolved") == (False, "BackendNotFound")
    assert condition(found, "Accepted") == (True, "Accepted")


def test_a_missing_root() -> None:
    found = snapshot_of(*TWO, build.split("s", "later", {"v1": 1}))
    assert condition(found, "ResolvedRefs") == (False, "RootNotFound")
    assert found.conditions[ref("s")].destinations == frozenset()
    assert all(not known.splits for known in found.destinations.values())


def test_zero_weights_stay_a_split_with_nobody_to_send_to() -> None:
    found = snapshot_of(*TWO, build.split("s", "api", {"v1": 0, "v2": 0}))
    assert [known.weight for known in found.destinations["shop/api:80"].splits[0].backends] == [0, 0]
    assert Reason.ALL_WEIGHTS_ZERO in reasons(found)
    assert not found.destinations["shop/api:80"].splits[0].fallback_root


def test_fallback_to_the_root_is_asked_for_on_the_split() -> None:
    marks = {"smi-mesh.io/fallback": "root"}
    found = snapshot_of(*TWO, build.split("s", "api", {"v1": 0}, annotations=marks))
    assert found.destinations["shop/api:80"].splits[0].fallback_root


def test_the_root_among_its_backends_means_its_own_endpoints() -> None:
    found = snapshot_of(*TWO, build.split("s", "api", {"api": 1, "v2": 1}), build.split("t", "v2", {"v1": 1}))
    backends = found.destinations["shop/api:80"].splits[0].backends
    assert [known.cluster for known in backends] == ["shop/api:80", "shop/v2:80"]
    assert reasons(found) == {Reason.ROOT_AMONG_BACKENDS}
    assert condition(found, "Accepted") == (True, "RootAmongBackends")


def test_the_oldest_catch_all_counts() -> None:
    newer = build.split("a-newer", "api", {"v2": 1}, created="2026-01-02T00:00:00Z")
    older = build.split("s", "api.shop", {"v1": 1}, created="2026-01-01T00:00:00Z")
    found = snapshot_of(*TWO, newer, older)
    assert [known.name for known in found.destinations["shop/api:80"].splits] == ["shop/s"]
    assert condition(found, "Conflicted", "a-newer") == (True, "Conflicted")
    assert condition(found, "Conflicted") is None
    assert found.conditions[ref("a-newer")].destinations == {"shop/api:80"}
    alone = snapshot_of(*TWO, newer)
    assert [known.name for known in alone.destinations["shop/api:80"].splits] == ["shop/a-newer"]
    assert condition(alone, "Conflicted", "a-newer") is None


def test_a_quarantined_split_makes_room_for_the_next() -> None:
    bad = build.split("bad", "api", {"v2": -1}, created="2020-01-01T00:00:00Z")
    found = snapshot_of(*TWO, bad, build.split("s", "api", {"v1": 1}))
    assert [known.name for known in found.destinations["shop/api:80"].splits] == ["shop/s"]
    assert condition(found, "Accepted", "bad") == (False, "InvalidWeight")
    assert condition(found, "Conflicted") is None


def test_filtered_splits_come_first_in_order_of_age() -> None:
    group = build.route_group("g", {"name": "m", "headers": [{"User-Agent": "Firefox"}]})
    found = snapshot_of(
        *TWO,
        group,
        build.split("all", "api", {"v1": 1}, created="2020-01-01T00:00:00Z"),
        build.split("b", "api", {"v2": 1}, matches=["g"], created="2021-01-01T00:00:00Z"),
        build.split("a", "api", {"v2": 1}, matches=["g"], created="2022-01-01T00:00:00Z"),
        build.split("unstamped", "api", {"v2": 1}, matches=["g"], created=""),
    )
    splits = found.destinations["shop/api:80"].splits
    assert [known.name for known in splits] == ["shop/b", "shop/a", "shop/unstamped", "shop/all"]
    assert splits[0].matches is not None
    assert splits[0].matches[0].headers == (("user-agent", "Firefox"),)
    group_ref = ObjectRef("specs.smi-spec.io", "HTTPRouteGroup", "shop", "g")
    assert found.conditions[group_ref].destinations == {"shop/api:80"}


def test_several_groups_are_one_set_of_matches() -> None:
    found = snapshot_of(
        *TWO,
        build.route_group("g", {"name": "m", "pathRegex": "/a"}),
        build.route_group("h", {"name": "m", "pathRegex": "/b"}),
        build.split("s", "api", {"v2": 1}, matches=["h", "g"]),
    )
    matches = found.destinations["shop/api:80"].splits[0].matches
    assert {match.group for match in matches or ()} == {"shop/g", "shop/h"}


def test_a_split_whose_only_group_is_missing_matches_nothing() -> None:
    found = snapshot_of(*TWO, build.split("s", "api", {"v2": 1}, matches=["gone"]))
    assert found.destinations["shop/api:80"].splits[0].matches == ()
    assert condition(found, "ResolvedRefs") == (False, "RouteNotFound")


def test_regex_mode_of_the_namespace() -> None:
    objects = [
        *TWO,
        build.route_group("g", {"name": "m", "pathRegex": "/a"}),
        build.split("s", "api", {"v2": 1}, matches=["g"]),
    ]

    def mode(*more: Obj) -> str:
        matches = snapshot_of(*objects, *more).destinations["shop/api:80"].splits[0].matches
        assert matches
        return matches[0].regex

    assert mode() == "spec"
    assert mode(build.settings(regex="full")) == "full"
    assert mode(build.settings(regex="full"), build.namespace("shop", regex="spec")) == "spec"


def test_headless_root_by_its_pods_addresses() -> None:
    db = build.workload("db", "10.1.0.9")
    assert snapshot_of(*db).addresses == {}
    found = snapshot_of(*db, *TWO, build.split("s", "db", {"v1": 1}))
    assert found.addresses["10.1.0.9:8080"] == "shop/db:80"


def test_deleting_a_split_leaves_nothing_behind() -> None:
    objects = [*TWO, *build.workload("db", "10.1.0.9")]
    assert snapshot_of(*objects) == snapshot_of(*objects)
    with_split = snapshot_of(*objects, build.split("s", "db", {"v1": 1}))
    assert with_split.digest != snapshot_of(*objects).digest
