"""What one proxy is given: names and addresses resolved, and no more than it asked for."""

from __future__ import annotations

import pytest

from controller.compile.slicing import cluster_of, diff, resolve, slice_for
from smi.policy.codec import decode_cluster, decode_destination, decode_inbound
from smi.policy.snapshot import PASSTHROUGH, Destination, Endpoint, Protocol
from tests.controller.compile import build
from tests.controller.compile.build import snapshot_of

DB = build.endpoint_slice("db", [build.endpoint("db-0", "10.1.0.9", hostname="db-0")])
SNAPSHOT = snapshot_of(
    *build.workload("api", "10.1.0.1", cluster_ip="10.96.0.1"),
    *build.workload("v1", "10.1.0.2", cluster_ip="10.96.0.2"),
    *build.workload("teller", "10.1.1.1", cluster_ip="10.96.1.1", ns="bank"),
    build.service("db"),
    build.pod("db-0", "10.1.0.9", sa="db"),
    DB,
    build.pod("plain", "10.1.0.20", meshed=False),
    build.pod("out", "10.1.0.21", annotations={"smi-mesh.io/exclude-inbound-ports": "9000"}),
    build.split("s", "api", {"v1": 1, "gone": 1}),
    build.split("d", "db", {"v1": 1}),
)


@pytest.mark.parametrize(
    "key",
    [
        "10.96.0.1:80",
        "api:80",
        "API:80",
        "api.shop:80",
        "api.shop.svc:80",
        "api.shop.svc.cluster.local:80",
        "api.shop.svc.cluster.local.:80",
    ],
)
def test_every_way_to_the_root(key: str) -> None:
    assert resolve(SNAPSHOT, "shop", key) == SNAPSHOT.destinations["shop/api:80"]


@pytest.mark.parametrize(
    "key",
    [
        "10.96.0.1:81",
        "api:81",
        "teller:80",
        "example.com:443",
        "8.8.8.8:53",
        "api.shop.cluster.local:80",
        "nonsense",
        ":80",
        "api:",
    ],
)
def test_what_the_mesh_does_not_know_passes_through(key: str) -> None:
    assert resolve(SNAPSHOT, "shop", key) is PASSTHROUGH


def test_short_names_are_the_callers_own() -> None:
    assert resolve(SNAPSHOT, "bank", "teller:80").service == "bank/teller"
    assert resolve(SNAPSHOT, "bank", "api:80") is PASSTHROUGH
    assert resolve(SNAPSHOT, "bank", "api.shop:80").service == "shop/api"


def test_a_headless_root_is_split_by_address_and_by_its_name_but_not_by_its_pods_names() -> None:
    root = SNAPSHOT.destinations["shop/db:80"]
    assert resolve(SNAPSHOT, "shop", "10.1.0.9:8080") == root
    assert resolve(SNAPSHOT, "shop", "db:80") == root
    for name in ("db-0.db", "db-0.db.shop", "db-0.db.shop.svc.cluster.local"):
        assert resolve(SNAPSHOT, "shop", f"{name}:8080") == Destination(
            port=8080, cluster="pod/shop/db-0:8080"
        )


def test_a_pod_by_its_address_is_a_cluster_of_one() -> None:
    found = resolve(SNAPSHOT, "shop", "10.1.0.1:8080")
    assert found == Destination(port=8080, protocol=Protocol.DETECT, cluster="pod/shop/api-0:8080")
    identity = "spiffe://cluster.local/ns/shop/sa/api"
    assert cluster_of(SNAPSHOT, "pod/shop/api-0:8080") == (
        Endpoint("10.1.0.1", 8080, "shop/api-0", identity),
    )


@pytest.mark.parametrize(
    ("ip", "pod", "port"),
    [("10.1.0.20", "plain", 80), ("10.1.0.21", "out", 9000), ("10.1.0.1", "api-0", 15020)],
)
def test_ports_outside_the_mesh_are_spoken_to_in_plain(ip: str, pod: str, port: int) -> None:
    found = resolve(SNAPSHOT, "shop", f"{ip}:{port}")
    assert found.cluster is not None
    assert cluster_of(SNAPSHOT, found.cluster) == (Endpoint(ip, port, f"shop/{pod}", None),)


def test_a_cluster_that_is_gone_is_empty() -> None:
    assert cluster_of(SNAPSHOT, "shop/gone:80") == cluster_of(SNAPSHOT, "pod/shop/gone:80") == ()


def test_a_slice_holds_what_its_keys_need() -> None:
    keys = ["10.96.0.1:80", "example.com:443"]
    found = slice_for(SNAPSHOT, "shop/v1-0", keys)
    assert sorted(found) == [
        "cluster/shop/api:80",
        "cluster/shop/v1:80",
        "destination/10.96.0.1:80",
        "destination/example.com:443",
        "inbound",
    ]
    assert decode_inbound(found["inbound"]) == SNAPSHOT.inbound["shop/v1-0"]
    assert decode_destination(found["destination/10.96.0.1:80"]) == SNAPSHOT.destinations["shop/api:80"]
    assert decode_cluster(found["cluster/shop/v1:80"]) == SNAPSHOT.clusters["shop/v1:80"]


def test_a_pod_nobody_knows_has_no_slice() -> None:
    with pytest.raises(KeyError):
        slice_for(SNAPSHOT, "shop/nobody", [])
    with pytest.raises(KeyError):
        slice_for(SNAPSHOT, "shop/plain", [])


def test_diff_is_what_changed() -> None:
    old = slice_for(SNAPSHOT, "shop/v1-0", ["api:80"])
    new = slice_for(SNAPSHOT, "shop/v1-0", ["v1:80"])
    changed, removed = diff(old, new)
    assert sorted(changed) == ["destination/v1:80"]
    assert removed == ("cluster/shop/api:80", "destination/api:80")
    assert diff(new, new) == ({}, ())


def test_a_udp_key_means_the_udp_port_of_the_same_number() -> None:
    ports = [{"port": 53, "name": "tcp"}, {"port": 53, "name": "udp", "protocol": "UDP"}]
    snapshot = snapshot_of(build.service("dns", ports, ip="10.96.0.7"), build.pod("dns-0", "10.1.0.7"))
    tcp, udp = resolve(snapshot, "shop", "10.96.0.7:53"), resolve(snapshot, "shop", "udp:10.96.0.7:53")
    assert (tcp.cluster, udp.cluster) == ("shop/dns:53", "udp:shop/dns:53")
    assert resolve(snapshot, "shop", "udp:dns:53") == udp
    pod = resolve(snapshot, "shop", "udp:10.1.0.7:5353")
    assert (pod.protocol, pod.cluster) == (Protocol.UDP, "pod/shop/dns-0:5353")
    assert resolve(snapshot, "shop", "udp:10.96.0.7:54") is PASSTHROUGH
