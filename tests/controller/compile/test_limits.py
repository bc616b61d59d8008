"""Limits on their way from a Service's annotations to the proxies that hold them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.compile.compiler import compile  # noqa: A004 - the architecture's own verb
from controller.compile.slicing import slice_for
from controller.compile.snapshot import Snapshot
from smi.names import CIRCUIT_BREAKER_ANNOTATION, CONNECTION_RATE_LIMIT_ANNOTATION, RATE_LIMIT_ANNOTATION
from smi.policy.codec import encode_breaker
from smi.policy.snapshot import CircuitBreaker
from tests.controller.compile import build
from tests.controller.compile.build import world_of


def shop(**annotations: str) -> list[dict[str, Any]]:
    """api over api-0; `rate_limit="1/s"` becomes annotation `smi-mesh.io/rate-limit: 1/s` of its Service."""
    objects = build.workload("api", "10.1.0.1", cluster_ip="10.96.0.1")
    marks = {f"smi-mesh.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    objects[0]["metadata"]["annotations"] = {"example.com/other": "thing", **marks}
    return objects


def compiled(*objects: dict[str, Any], before: Snapshot | None = None) -> Snapshot:
    return compile(world_of(objects), before)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"rate_limit": "1/s"}),
        ({"rate_limit": "1/s"}, {"rate_limit": "1/s burst 2"}),
        ({}, {"circuit_breaker": "max-requests=1"}),
        ({"circuit_breaker": "max-requests=1"}, {"circuit_breaker": "max-requests=2"}),
        ({"circuit_breaker": "max-requests=1"}, {}),
    ],
)
def test_a_change_of_an_annotation_is_a_change(first: dict[str, str], second: dict[str, str]) -> None:
    before = compiled(*shop(**first))
    after = compiled(*shop(**second), before=before)
    assert after.digest != before.digest
    assert after == compiled(*shop(**second))


def test_other_annotations_are_none_of_our_business() -> None:
    objects = shop(rate_limit="1/s")
    before = compiled(*objects).digest
    objects[0]["metadata"]["annotations"]["example.com/other"] = "changed"
    assert compiled(*objects).digest == before


def test_a_pod_holds_the_limits_of_every_service_on_its_ports() -> None:
    also = build.service("front", [{"port": 90, "targetPort": 9090}, {"port": 80, "targetPort": 8080}])
    also["metadata"]["annotations"] = {RATE_LIMIT_ANNOTATION: "5/s", CONNECTION_RATE_LIMIT_ANNOTATION: "2/s"}
    slice_of_front = build.endpoint_slice(
        "front", [build.endpoint("api-0", "10.1.0.1")], [{"port": 9090}], suffix="2"
    )
    also["spec"]["ports"][0]["name"], also["spec"]["ports"][1]["name"] = "admin", "main"
    slice_of_front["ports"] = [{"name": "admin", "port": 9090}, {"name": "main", "port": 8080}]
    snapshot = compiled(*shop(rate_limit="1/s"), also, slice_of_front)
    held = {(limit.service, limit.text): set(limit.ports) for limit in snapshot.inbound["shop/api-0"].limits}
    assert held == {
        ("shop/api", "1/s"): {8080},
        ("shop/front", "5/s"): {8080, 9090},
        ("shop/front", "2/s"): {8080, 9090},
    }


def test_only_who_calls_a_service_is_given_its_circuit_breaker() -> None:
    other = build.workload("other", "10.1.0.2", cluster_ip="10.96.0.2")
    web = build.workload("web", "10.1.0.9", cluster_ip="10.96.0.9")
    snapshot = compiled(*shop(circuit_breaker="max-requests=7"), *other, *web)
    caller = slice_for(snapshot, "shop/web-0", ["api:80"])
    assert caller["breaker/shop/api:80"] == encode_breaker(CircuitBreaker(max_requests=7))
    assert not [name for name in slice_for(snapshot, "shop/web-0", ["other:80"]) if "breaker" in name]


def test_a_splits_backend_has_its_own_services_circuit_breaker() -> None:
    v1 = build.workload("v1", "10.1.0.2", cluster_ip="10.96.0.2")
    v1[0]["metadata"]["annotations"] = {CIRCUIT_BREAKER_ANNOTATION: "max-requests=3"}
    web = build.workload("web", "10.1.0.9", cluster_ip="10.96.0.9")
    snapshot = compiled(*shop(), *v1, *web, build.split("s", "api", {"v1": 1}))
    assert snapshot.breakers == {"shop/v1:80": CircuitBreaker(max_requests=3)}
    assert "breaker/shop/v1:80" in slice_for(snapshot, "shop/web-0", ["api:80"])
