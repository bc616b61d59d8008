"""Deny by default, and exactly what TrafficTargets open (S20-S25), with real requests."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.e2e.harness import NAMESPACE, Cluster, wait_for
from tests.e2e.policies import allow, routes, tcp_route


def test_http_is_denied_by_default_with_a_reason(policies: Cluster) -> None:
    answer = policies.call("web", url="http://api-v1:8080/items", count=20)
    assert answer["statuses"] == {"403": 20}
    assert answer["reasons"] == {"no-traffic-target": 20}


def test_a_denied_request_is_in_the_access_log_of_the_pod_that_asked_for_one(policies: Cluster) -> None:
    path = f"/denied-{time.time_ns()}"
    assert policies.call("stranger", url=f"http://api-v1:8080{path}?secret=1")["statuses"] == {"403": 1}

    def logged() -> list[dict[str, Any]]:
        text = policies.kubectl("logs", "-n", NAMESPACE, "deployment/api-v1", "-c", "smi-mesh-proxy")
        return [json.loads(line) for line in text.splitlines() if path in line]

    (entry,) = wait_for("the access log's line", logged)
    assert (entry["direction"], entry["method"], entry["path"]) == ("inbound", "GET", path)
    assert entry["status"] == 403
    assert entry["identity"].endswith("/ns/shop/sa/stranger")
    assert entry["reason"]


def test_tcp_is_denied_by_default_with_a_reset(policies: Cluster) -> None:
    assert policies.talk("web", host="db", port=5432, send="hello", count=5) == {"reset": 5}


def test_a_traffic_target_opens_exactly_its_route(policies: Cluster) -> None:
    policies.apply(
        routes("items", "[{name: read, pathRegex: /items, methods: [GET]}]")
        + allow(rules="[{kind: HTTPRouteGroup, name: items, matches: [read]}]")
    )
    policies.programmed("traffictarget", "web-to-api-v1")
    seen = {
        (caller, method, path): policies.call(caller, url=f"http://api-v1:8080{path}", method=method)[
            "statuses"
        ]
        for caller, method, path in [
            ("web", "GET", "/items"),
            ("web", "GET", "/items/7?x=1"),
            ("web", "GET", "//items/../items"),
            ("web", "POST", "/items"),
            ("web", "GET", "/admin"),
            ("web", "GET", "/items/../admin"),
            ("stranger", "GET", "/items"),
        ]
    }
    assert seen == {
        ("web", "GET", "/items"): {"200": 1},
        ("web", "GET", "/items/7?x=1"): {"200": 1},
        ("web", "GET", "//items/../items"): {"200": 1},
        ("web", "POST", "/items"): {"403": 1},
        ("web", "GET", "/admin"): {"403": 1},
        ("web", "GET", "/items/../admin"): {"403": 1},
        ("stranger", "GET", "/items"): {"403": 1},
    }


def test_a_tcp_route_opens_the_database_to_one_caller(policies: Cluster) -> None:
    policies.apply(
        tcp_route("postgres", 5432) + allow(destination="db", rules="[{kind: TCPRoute, name: postgres}]")
    )
    policies.programmed("traffictarget", "web-to-db")
    assert policies.talk("web", host="db", port=5432, send="hello", count=5) == {None: 5}
    assert policies.talk("stranger", host="db", port=5432, send="hello", count=5) == {"reset": 5}


def test_deleting_the_traffic_target_closes_the_door_on_kept_alive_connections(policies: Cluster) -> None:
    policies.apply(
        routes("all", '[{name: all, pathRegex: ".*"}]') + allow(rules="[{kind: HTTPRouteGroup, name: all}]")
    )
    policies.programmed("traffictarget", "web-to-api-v1")
    assert policies.call("web", url="http://api-v1:8080/")["statuses"] == {"200": 1}
    policies.delete_policies()

    def denied() -> bool:
        answer = policies.call("web", url="http://api-v1:8080/", count=5)
        return bool(answer["statuses"] == {"403": 5})

    assert wait_for("denied again", denied, seconds=5)


def test_plain_text_from_outside_the_mesh_is_refused(policies: Cluster) -> None:
    """S32: the host has no mesh identity; strict is the default."""
    ip = policies.pods("api-v1")[0]["status"]["podIP"]
    with pytest.raises(HTTPError) as refused:
        build_opener(ProxyHandler({})).open(f"http://{ip}:8080/", timeout=5)
    assert refused.value.code == 403
    assert refused.value.headers["x-smi-mesh-denial"].startswith("no-identity; id=")
    refused.value.close()
