"""From rows of proxies to TrafficMetrics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.metricsapi import aggregate, documents
from controller.metricsapi.aggregate import Moment
from controller.metricsapi.directory import Directory
from controller.metricsapi.query import Query
from controller.metricsapi.resources import RESOURCES
from controller.metricsapi.samples import Samples, SamplesError, Tally, parse_samples
from smi.api.metrics import TrafficMetrics
from smi.api.quantity import QuantityError, format_quantity, parse_quantity
from tests.controller.metricsapi.build import (
    BOUNDS,
    deployed,
    document,
    name,
    pod,
    row,
    samples,
    slice_of,
    split,
    world,
)

NOW = Moment(1_700_000_000.9, 30)
SHOP = Directory.of(
    world(
        deployed("shop/web-1-a", "web", node="n1"),
        deployed("shop/api-1-a", "api", node="n1"),
        deployed("shop/api-1-b", "api", node="n2"),
        pod("shop/batch-x", "Job/batch", ("Job", "batch"), node="n2"),
        pod("bank/db-0", "StatefulSet/db", ("StatefulSet", "db"), node="n2"),
        pod("bank/bare"),
        slice_of("shop/api", "shop/api-1-a", "shop/api-1-b"),
        slice_of("shop/api-v2", "shop/api-1-b"),
        split("shop/canary", "api.shop.svc", api_v1=90, api_v2=10),
    )
)
TRAFFIC = (
    samples(
        "shop/web-1-a",
        row("outbound", "shop/api-1-a", 20, service="shop/api", backend="shop/api-v1", split="shop/canary"),
        row("outbound", "shop/api-1-b", 5, 2, service="shop/api", backend="shop/api-v2", split="shop/canary"),
    ),
    samples("shop/api-1-a", row("inbound", "shop/web-1-a", 19), row("inbound", "", 1)),
    samples(
        "shop/api-1-b",
        row("inbound", "shop/web-1-a", 5, 2),
        row("outbound", "bank/db-0", 3, service="bank/db"),
    ),
    samples("bank/db-0", row("inbound", "shop/api-1-b", 3)),
    samples("bank/bare"),
)


def numbers(item: TrafficMetrics) -> tuple[int, int]:
    values = {one.name: one.value for one in item.metrics}
    return int(values["success_count"]), int(values["failure_count"])


def summaries(plural: str, namespace: str = "", traffic: Iterable[Samples] = TRAFFIC) -> dict[str, Any]:
    found = aggregate.summaries(
        SHOP, RESOURCES[plural], traffic, NOW, lambda owner: namespace in ("", owner.namespace)
    )
    return {item.metadata.name: numbers(item) for item in found}


@pytest.mark.parametrize(
    ("plural", "wanted"),
    [
        ("pods", {"web-1-a": (0, 0), "api-1-a": (20, 0), "api-1-b": (5, 2), "db-0": (3, 0)}),
        ("deployments", {"web": (0, 0), "api": (25, 2)}),
        ("replicasets", {"web-1": (0, 0), "api-1": (25, 2)}),
        ("statefulsets", {"db": (3, 0)}),
        ("namespaces", {"shop": (25, 2), "bank": (3, 0)}),
        ("nodes", {"n1": (20, 0), "n2": (8, 2)}),
        ("services", {"api": (25, 2), "api-v2": (5, 2)}),
        ("jobs", {}),
        ("daemonsets", {}),
        ("replicationcontrollers", {}),
    ],
)
def test_pods_add_up_to_what_contains_them(plural: str, wanted: dict[str, Any]) -> None:
    assert summaries(plural) == wanted


def test_a_list_keeps_to_its_namespace() -> None:
    assert set(summaries("pods", "bank")) == {"db-0"}


def edges(plural: str, of: str) -> dict[tuple[str, str, str], tuple[int, int]]:
    items = aggregate.edges(SHOP, RESOURCES[plural], name(of) if "/" in of else _top(of), TRAFFIC, NOW)
    return {
        (
            item.edge.direction.value,
            item.edge.side.value,
            (item.edge.resource.name or "") if item.edge.resource else "?",
        ): numbers(item)
        for item in items
    }


def _top(text: str) -> Any:
    from smi.names import NamespacedName

    return NamespacedName("", text)


def test_edges_have_both_directions_as_both_sides_saw_them() -> None:
    assert edges("pods", "shop/web-1-a") == {
        ("to", "client", "api-1-a"): (20, 0),
        ("to", "client", "api-1-b"): (5, 2),
        ("to", "server", "api-1-a"): (19, 0),
        ("to", "server", "api-1-b"): (5, 2),
    }
    assert edges("deployments", "shop/api") == {
        ("from", "client", "web"): (25, 2),
        ("from", "server", "web"): (24, 2),
        ("from", "server", ""): (1, 0),
        ("to", "client", "db"): (3, 0),
        ("to", "server", "db"): (3, 0),
    }
    assert edges("namespaces", "shop") == {
        ("from", "client", "shop"): (25, 2),
        ("from", "server", "shop"): (24, 2),
        ("from", "server", ""): (1, 0),
        ("to", "client", "bank"): (3, 0),
        ("to", "client", "shop"): (25, 2),
        ("to", "server", "bank"): (3, 0),
        ("to", "server", "shop"): (24, 2),
    }
    assert edges("statefulsets", "bank/db") == {
        ("from", "client", "api"): (3, 0),
        ("from", "server", "api"): (3, 0),
    }
    assert edges("pods", "bank/bare") == {}


def test_a_peer_that_is_gone_is_known_by_what_the_row_says() -> None:
    row_of_gone = row("outbound", "shop/old-1-z", 4, workload="Deployment/old")
    traffic = (samples("shop/web-1-a", row_of_gone),)
    items = aggregate.edges(SHOP, RESOURCES["deployments"], name("shop/web"), traffic, NOW)
    assert [one.edge.resource and one.edge.resource.name for one in items] == ["old"]


def test_services_are_edges_by_the_name_that_was_called() -> None:
    found = edges("services", "shop/api-v2")
    assert found["to", "client", "db"] == (3, 0)
    assert found["from", "server", ""] == (5, 2)


def test_splits_have_one_item_per_backend_also_of_nothing() -> None:
    splits = RESOURCES["trafficsplits"]
    wanted = frozenset({name("shop/canary"), name("shop/unknown")})
    for traffic, counts in ((TRAFFIC, [(20, 0), (5, 2)]), ((), [(0, 0), (0, 0)])):
        items = aggregate.split_summaries(SHOP, splits, traffic, NOW, wanted)
        assert [numbers(item) for item in items] == counts
        backends = [item.backend.model_dump() for item in items if item.backend]
        assert backends == [
            {"apex": "api", "name": "api-v1", "weight": 90},
            {"apex": "api", "name": "api-v2", "weight": 10},
        ]
    of = aggregate.split_edges(SHOP, splits, name("shop/canary"), TRAFFIC, NOW)
    assert [
        (one.edge.resource and one.edge.resource.name, one.backend and one.backend.name) for one in of
    ] == [
        ("web-1-a", "api-v1"),
        ("web-1-a", "api-v2"),
    ]


def test_the_object_as_the_specification_writes_it() -> None:
    slow = samples("shop/api-1-a", row("inbound", "shop/web-1-a", 90, 10, buckets=[0, 0, 0, 90, 10, 0]))
    moment = Moment(NOW.now, 30, missing=1, asked=3)
    item = aggregate.summary(SHOP, RESOURCES["pods"], name("shop/api-1-a"), [slow], moment)
    assert documents.as_json(item) == {
        "apiVersion": "metrics.smi-spec.io/v1alpha1",
        "kind": "TrafficMetrics",
        "metadata": {
            "name": "api-1-a",
            "namespace": "shop",
            "creationTimestamp": "2023-11-14T22:13:20Z",
            "annotations": {"smi-mesh.io/proxies-missing": "1 of 3"},
        },
        "resource": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "api-1-a"},
        "edge": {"direction": "from", "side": "server", "resource": {}},
        "timestamp": "2023-11-14T22:13:20Z",
        "window": "30s",
        "metrics": [
            {"name": "p99_response_latency", "unit": "seconds", "value": "91m"},
            {"name": "p90_response_latency", "unit": "seconds", "value": "10m"},
            {"name": "p50_response_latency", "unit": "seconds", "value": "7778u"},
            {"name": "success_count", "value": "90"},
            {"name": "failure_count", "value": "10"},
        ],
    }
    listed = documents.listing(Query(RESOURCES["pods"], "shop", selector="app=api"), [item])
    assert listed["resource"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "shop"}
    assert listed["selector"] == {"matchLabels": {"app": "api"}}
    assert TrafficMetrics.model_validate_json(item.model_dump_json(by_alias=True)) == item
    (shown,) = documents.table([item])["rows"]
    assert shown["cells"] == ["api-1-a", "90.00%", "3.3", "7.8ms", "91ms", "from anyone (server)"]


counts = st.lists(st.integers(0, 50), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1)


@given(st.lists(counts, max_size=6))
def test_percentiles_grow_and_lie_in_the_bucket_of_their_rank(histograms: list[list[int]]) -> None:
    tally = Tally()
    for histogram in histograms:
        rows = row("inbound", success=sum(histogram), buckets=histogram)
        (one,) = samples("a/b", rows).rows
        tally.add(one.tally)
    shares = [Fraction(percent, 100) for percent in (50, 90, 99)]
    found = [tally.quantile(share) for share in shares]
    assert found == sorted(found)
    merged = [sum(column) for column in zip(*histograms, strict=True)] if histograms else [0]
    assert tally.success == sum(merged)
    for share, value in zip(shares, found, strict=True):
        if not sum(merged):
            assert value == 0
            continue
        rank = float(share) * sum(merged)
        upto, index = 0, 0
        while not (merged[index] and upto + merged[index] >= rank):
            upto += merged[index]
            index += 1
        low = ([0.0, *BOUNDS])[index]
        high = ([*BOUNDS, BOUNDS[-1]])[index]
        assert low - 1e-9 <= value <= high + 1e-9


def test_histograms_with_other_bounds_can_be_added() -> None:
    tally = Tally(buckets={1.0: 5, math.inf: 5})
    tally.add(Tally(buckets={2.0: 10}))
    assert tally.buckets == {1.0: 5, 2.0: 10, math.inf: 5}
    assert tally.quantile(Fraction(99, 100)) == 2.0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "version 1"),
        ({"pod": "shop/other"}, "new owner"),
        ({"bounds_ms": [2, 1]}, "must grow"),
        ({"bounds_ms": [0, 1]}, "positive"),
        ({"bounds_ms": list(range(1, 300))}, "at most 200"),
        ({"http": {}}, "expected a list"),
        ({"http": [1]}, "must be an object"),
        ({"http": [row("inbound", buckets=[1])]}, "1 buckets for 5 bounds"),
        ({"http": [row("inbound") | {"success": -1}]}, "whole number"),
        ({"http": [row("inbound") | {"service": 1}]}, "service must be text"),
        ({"http": [row("inbound") | {"peer": None}]}, "peer must be an object"),
        ({"http": [row("inbound", "nowhere")]}, "peer.pod"),
    ],
)
def test_what_a_proxy_must_not_answer(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SamplesError, match=complaint):
        parse_samples(document("shop/web") | change, name("shop/web"))
    with pytest.raises(SamplesError):
        parse_samples([], name("shop/web"))


@given(st.integers(0, 10**15))
def test_quantities_keep_their_value(nanos: int) -> None:
    value = Fraction(nanos, 10**9)
    assert parse_quantity(format_quantity(value)) == value


def test_quantities_are_canonical() -> None:
    values = (Fraction(3), Fraction(1, 100), Fraction(3, 2000), Fraction(1, 10**9), Fraction(0))
    assert [format_quantity(value) for value in values] == ["3", "10m", "1500u", "1n", "0"]
    for value in (Fraction(-1), Fraction(1, 10**10)):
        with pytest.raises(QuantityError):
            format_quantity(value)
