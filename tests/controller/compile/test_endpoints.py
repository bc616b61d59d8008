"""The endpoint lane: slices joined with pods, and only what changed joined anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compile.endpoints import Endpoints, compile_endpoints
from controller.compile.world import World
from smi.names import NamespacedName
from smi.policy.snapshot import Endpoint, InboundPort, Protocol
from tests.controller.compile import build

API = "spiffe://cluster.local/ns/shop/sa/api"


def joined(*objects: build.Obj) -> Endpoints:
    return compile_endpoints(build.world_of(objects))


def test_a_slice_joined_with_its_pod() -> None:
    found = joined(*build.workload("api", "10.1.0.1", cluster_ip="10.96.0.5"))
    assert found.clusters == {"shop/api:80": (Endpoint("10.1.0.1", 8080, "shop/api-0", API),)}
    assert found.pods_by_ip == {"10.1.0.1": "shop/api-0"}
    assert found.headless == {}


def test_a_pod_outside_the_mesh_is_spoken_to_in_plain() -> None:
    found = joined(
        build.service("api"),
        build.pod("api-0", "10.1.0.1", meshed=False),
        build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")]),
    )
    assert found.clusters["shop/api:80"] == (Endpoint("10.1.0.1", 8080, "shop/api-0", None),)


def test_an_excluded_port_is_spoken_to_in_plain() -> None:
    annotations = {"smi-mesh.io/exclude-inbound-ports": "8080"}
    found = joined(
        build.service("api"),
        build.pod("api-0", "10.1.0.1", annotations=annotations),
        build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")]),
    )
    assert found.clusters["shop/api:80"][0].identity is None


def test_an_address_without_a_pod() -> None:
    entry = {"addresses": ["192.168.7.7"]}
    found = joined(build.service("api"), build.endpoint_slice("api", [entry]))
    assert found.clusters["shop/api:80"] == (Endpoint("192.168.7.7", 8080),)


def test_an_address_that_is_a_pods_is_joined_without_a_reference() -> None:
    entry = {"addresses": ["10.1.0.1"]}
    found = joined(
        build.service("api"), build.pod("api-0", "10.1.0.1", sa="api"), build.endpoint_slice("api", [entry])
    )
    assert found.clusters["shop/api:80"][0].identity == API


@pytest.mark.parametrize("ip", ["10.1.0.2", None])
def test_a_slice_ahead_of_or_behind_its_pod_waits(ip: str | None) -> None:
    """Speaking plain to a pod not seen yet, or to the next owner of an address, would be worse."""
    pods = [build.pod("api-0", ip)] if ip else []
    found = joined(
        build.service("api"), *pods, build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")])
    )
    assert found.clusters == {"shop/api:80": ()}


def leaving_pod(name: str, ip: str) -> build.Obj:
    pod = build.pod(name, ip)
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return pod


@pytest.mark.parametrize(
    ("conditions", "who"),
    [
        ([(True, None), (True, None)], "api-0"),  # the slice does not say yet that api-1 leaves
        ([(True, None), (False, True)], "api-0"),
        ([(False, None), (False, True)], "api-1"),  # the last one goes on until there is another
        ([(False, None), (True, None)], "api-1"),  # and the slice may be behind the pods either way
        ([(False, None), (False, False)], None),
        ([(False, None), (False, None)], None),
    ],
)
def test_who_leaves_is_asked_only_where_nobody_is_ready(
    conditions: list[tuple[bool, bool | None]], who: str | None
) -> None:
    (ready_0, _), (ready_1, serving_1) = conditions
    found = joined(
        build.service("api"),
        build.pod("api-0", "10.1.0.1"),
        leaving_pod("api-1", "10.1.0.2"),
        build.endpoint_slice(
            "api",
            [
                build.endpoint("api-0", "10.1.0.1", ready=ready_0),
                build.endpoint("api-1", "10.1.0.2", ready=ready_1, serving=serving_1),
            ],
        ),
    )
    expected = [(f"shop/{who}", who == "api-1")] if who else []
    assert [(known.pod, known.leaving) for known in found.clusters["shop/api:80"]] == expected


def test_a_service_without_slices_keeps_its_last_pod_too() -> None:
    found = joined(build.service("api", selector={"app": "api"}), leaving_pod("api-1", "10.1.0.2"))
    assert found.clusters == {"shop/api:80": ()}  # another app's
    pod = leaving_pod("api-1", "10.1.0.2")
    pod["metadata"]["labels"]["app"] = "api"
    found = joined(build.service("api", selector={"app": "api"}), pod)
    assert [known.leaving for known in found.clusters["shop/api:80"]] == [True]


def test_who_is_not_ready_gets_nothing_but_declares_its_ports() -> None:
    found = joined(
        build.service("api", [{"port": 80, "targetPort": 8080, "name": "http"}]),
        build.pod("api-0", "10.1.0.1"),
        leaving_pod("api-1", "10.1.0.2"),
        build.endpoint_slice(
            "api",
            [
                build.endpoint("api-0", "10.1.0.1", ready=False),
                build.endpoint("api-1", "10.1.0.2", ready=False, serving=False),
            ],
            [{"port": 8080, "name": "http"}],
        ),
    )
    assert found.clusters == {"shop/api:80": ()}
    declared = InboundPort(8080, Protocol.HTTP, "shop/api")
    assert [target.port for target in found.targets["shop/api-0"]] == [declared]


def test_ports_are_matched_by_name_and_transport() -> None:
    ports = [{"port": 80, "name": "web"}, {"port": 81, "name": "dns", "protocol": "UDP"}]
    slice_ports = [
        {"port": 8080, "name": "web"},
        {"port": 53, "name": "dns", "protocol": "UDP"},
        {"port": 99, "name": "other"},
        {"port": 98, "name": "web", "protocol": "UDP"},
    ]
    found = joined(
        build.service("api", ports),
        build.pod("api-0", "10.1.0.1"),
        build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")], slice_ports),
    )
    assert {key: [known.port for known in cluster] for key, cluster in found.clusters.items()} == {
        "shop/api:80": [8080],
        "udp:shop/api:81": [53],
    }


def test_one_pod_in_two_families_counts_once() -> None:
    dual = build.pod("api-0", "10.1.0.1")
    dual["status"]["podIPs"].append({"ip": "fd00::1"})
    second = build.endpoint_slice("api", [build.endpoint("api-0", "fd00::1")], suffix="v6")
    second["addressType"] = "IPv6"
    found = joined(
        build.service("api"), dual, build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")]), second
    )
    assert [known.ip for known in found.clusters["shop/api:80"]] == ["10.1.0.1"]
    assert found.pods_by_ip == {"10.1.0.1": "shop/api-0", "fd00::1": "shop/api-0"}


def test_without_slices_the_selector_decides() -> None:
    port = {"port": 80, "targetPort": "web"}
    container = {"ports": [{"containerPort": 8080, "name": "web"}]}
    found = joined(
        build.service("api", [port], selector={"app": "api"}),
        build.service("bare"),
        build.pod("api-0", "10.1.0.1", labels={"app": "api"}, containers=[container]),
        build.pod("api-1", "10.1.0.2", labels={"app": "api"}, containers=[container], ready=False),
        build.pod("web-0", "10.1.0.3", labels={"app": "web"}, containers=[container]),
        build.pod("api-0", "10.1.0.4", ns="bank", labels={"app": "api"}, containers=[container]),
    )
    assert [known.ip for known in found.clusters["shop/api:80"]] == ["10.1.0.1"]
    assert found.clusters["shop/bare:80"] == ()


def test_a_slice_of_no_service_and_a_port_name_no_container_has() -> None:
    loose = build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")])
    loose["metadata"]["labels"] = {}
    found = joined(
        build.service("api", [{"port": 80, "targetPort": "web"}], selector={"app": "api"}),
        build.pod("api-0", "10.1.0.1", labels={"app": "api"}),
        loose,
    )
    assert found.clusters == {"shop/api:80": ()}


def test_an_address_between_two_pods_belongs_to_the_one_that_stays() -> None:
    leaving = build.pod("a", "10.1.0.1")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    staying = build.pod("b", "10.1.0.1")
    assert (
        joined(leaving, staying).pods_by_ip == joined(staying, leaving).pods_by_ip == {"10.1.0.1": "shop/b"}
    )


def test_headless_addresses_and_hostnames() -> None:
    found = joined(
        build.service("db", [{"port": 5432, "targetPort": 15432}]),
        build.pod("db-0", "10.1.0.1"),
        build.endpoint_slice("db", [build.endpoint("db-0", "10.1.0.1", hostname="db-0")], [{"port": 15432}]),
    )
    assert found.headless == {"10.1.0.1:15432": ("shop/db:5432",)}
    assert found.hosts == {("db-0", "db", "shop"): "shop/db-0"}


def test_only_what_a_changed_pod_touches_is_joined_anew() -> None:
    objects = [*build.workload("api", "10.1.0.1"), *build.workload("web", "10.1.0.2")]
    old = build.world_of(objects)
    before = compile_endpoints(old)
    objects[1] = build.pod("api-0", "10.1.0.1", sa="other")
    new = build.world_of(objects)
    after = compile_endpoints(new, (old, before))
    api, web = NamespacedName("shop", "api"), NamespacedName("shop", "web")
    assert after.by_service[web] is before.by_service[web]
    assert after.by_service[api] != before.by_service[api]
    assert after == compile_endpoints(new)


PODS = [
    build.pod("a", "10.1.0.1", labels={"app": "x"}),
    build.pod("a", "10.1.0.2", labels={"app": "x"}, sa="other"),
    build.pod("b", "10.1.0.1", labels={"app": "x"}),
    build.pod("b", "10.1.0.3", labels={"app": "y"}, meshed=False),
    build.pod("c", "10.1.0.3", labels={"app": "y"}, ready=False),
]
SLICES = [
    build.endpoint_slice("x", [build.endpoint("a", "10.1.0.1"), build.endpoint("b", "10.1.0.1")]),
    build.endpoint_slice("x", [build.endpoint("a", "10.1.0.2", ready=False)]),
    build.endpoint_slice("x", [{"addresses": ["10.1.0.3"]}, {"addresses": ["10.1.0.9"]}], suffix="2"),
    build.endpoint_slice("y", [build.endpoint("b", "10.1.0.3"), build.endpoint("c", "10.1.0.3")]),
]
SERVICES = [
    build.service("x", selector={"app": "x"}),
    build.service("x", [{"port": 80, "targetPort": 8080, "name": "http"}], selector={"app": "x"}),
    build.service("y", selector={"app": "y"}, ip="10.96.0.1"),
    build.service("z", selector={"app": "y"}),
]


def worlds() -> st.SearchStrategy[World]:
    """Worlds of any few of the objects above, one of each name."""
    chosen = st.lists(st.sampled_from([*PODS, *SLICES, *SERVICES]), max_size=9)
    return chosen.map(
        lambda objects: build.world_of(
            {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}.values()
        )
    )


@given(history=st.lists(worlds(), min_size=2, max_size=5))
def test_what_came_before_never_changes_the_result(history: list[World]) -> None:
    before: tuple[World, Endpoints] | None = None
    for world in history:
        found = compile_endpoints(world, before)
        assert found == compile_endpoints(world)
        before = (world, found)


def test_a_pod_on_the_host_network_has_no_sidecar() -> None:
    obj = build.pod("agent", "192.168.0.1")
    obj["spec"]["hostNetwork"] = True
    found = joined(
        build.service("api"), obj, build.endpoint_slice("api", [build.endpoint("agent", "192.168.0.1")])
    )
    assert found.clusters["shop/api:80"] == (Endpoint("192.168.0.1", 8080, "shop/agent", None),)
    assert found.pods_by_ip == {}


def test_a_pod_that_ended_serves_nobody() -> None:
    obj = build.pod("api-0", "10.1.0.1")
    obj["status"]["phase"] = "Failed"
    found = joined(
        build.service("api"), obj, build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")])
    )
    assert found.clusters["shop/api:80"] == ()
