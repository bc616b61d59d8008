"""Names and addresses (S4, R13)."""

from __future__ import annotations

import pytest

from controller.compile.topology import cluster_addresses, lookup_names, split_host
from tests.controller.compile import build


def test_search_order_of_a_short_name() -> None:
    assert list(lookup_names("api", "shop", "cluster.local")) == [("api", "shop")]
    assert list(lookup_names("api.bank", "shop", "cluster.local")) == [
        ("api", "bank", "shop"),
        ("api", "bank"),
    ]
    assert list(lookup_names("api.bank.svc", "shop", "cluster.local")) == [
        ("api", "bank", "svc"),
        ("api", "bank"),
    ]
    full = "db-0.db.shop.svc.cluster.local"
    assert list(lookup_names(full, "bank", "cluster.local")) == [("db-0", "db", "shop")]
    assert list(lookup_names("example.com", "shop", "cluster.local")) == [
        ("example", "com", "shop"),
        ("example", "com"),
    ]


@pytest.mark.parametrize(
    ("key", "host", "port"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("[fd00::1]:80", "fd00::1", 80),
        ("Api.Shop.:8080", "api.shop", 8080),
        ("api", "", 0),
        ("api:http", "", 0),
        ("api:999999", "", 0),
        ("api:65536", "", 0),
        ("", "", 0),
    ],
)
def test_subscription_keys(key: str, host: str, port: int) -> None:
    assert split_host(key) == (host, port)


def test_cluster_addresses_in_both_families() -> None:
    obj = build.service("api", [{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 53}], ip="10.96.0.5")
    obj["spec"]["clusterIPs"] = ["10.96.0.5", "fd00::5"]
    world = build.world_of([obj, build.service("db")])
    assert cluster_addresses(world) == {
        "10.96.0.5:53": "shop/api:53",
        "10.96.0.5:80": "shop/api:80",
        "[fd00::5]:53": "shop/api:53",
        "[fd00::5]:80": "shop/api:80",
        "udp:10.96.0.5:53": "udp:shop/api:53",
        "udp:[fd00::5]:53": "udp:shop/api:53",
    }
