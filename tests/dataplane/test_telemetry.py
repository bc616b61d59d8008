"""Counters: what is counted comes out as Prometheus text, in a bounded number of series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from dataplane.telemetry import MAX_OUTCOMES, OVERFLOW, SIZES, Telemetry

WEB = "spiffe://cluster.local/ns/shop/sa/web"


def scrape(telemetry: Telemetry) -> dict[str, Metric]:
    families = list(text_string_to_metric_families(telemetry.render().decode()))
    assert len({family.name for family in families}) == len(families), "each family appears once"
    return {family.name: family for family in families}


def value(family: Metric, name: str, **labels: str) -> float:
    found = [sample.value for sample in family.samples if sample.name == name and sample.labels == labels]
    assert len(found) == 1, f"{name}{labels} in {family.samples}"
    return float(found[0])


def test_requests_are_counted_by_outcome_and_timed() -> None:
    telemetry = Telemetry()
    for seconds in (0.0004, 0.0005, 0.003, 99.0):
        telemetry.http("inbound", WEB, "shop/api", "shop/api-v1", 200, "", seconds)
    telemetry.http("inbound", WEB, "shop/api", "shop/api-v1", 403, "source-not-allowed", 0.0001)
    families = scrape(telemetry)
    where = {"direction": "inbound", "peer": WEB, "service": "shop/api", "backend": "shop/api-v1"}
    requests = families["smi_mesh_requests"]
    assert value(requests, "smi_mesh_requests_total", **where, status="200", reason="") == 4
    assert value(requests, "smi_mesh_requests_total", **where, status="403", reason="source-not-allowed") == 1
    duration = families["smi_mesh_request_duration_seconds"]
    assert duration.type == "histogram"
    name = "smi_mesh_request_duration_seconds"
    assert value(duration, f"{name}_bucket", **where, le="0.0005") == 3, "bounds are inclusive"
    assert value(duration, f"{name}_bucket", **where, le="0.005") == 4
    assert value(duration, f"{name}_bucket", **where, le="30") == 4
    assert value(duration, f"{name}_bucket", **where, le="+Inf") == 5
    assert value(duration, f"{name}_count", **where) == 5
    assert value(duration, f"{name}_sum", **where) == pytest.approx(99.004)


def test_connections_are_counted_with_their_bytes() -> None:
    telemetry = Telemetry()
    telemetry.tcp_open("outbound", "", "shop/db", "").close(10, 2000, 1.5)
    telemetry.tcp_open("outbound", "", "shop/db", "")
    telemetry.tcp_close("outbound", "", "shop/db", "", 1, 2, 0.5, "drain")
    families = scrape(telemetry)
    where = {"direction": "outbound", "peer": "", "service": "shop/db", "backend": ""}
    assert value(families["smi_mesh_tcp_opened"], "smi_mesh_tcp_opened_total", **where) == 2
    assert value(families["smi_mesh_tcp_sent_bytes"], "smi_mesh_tcp_sent_bytes_total", **where) == 11
    assert (
        value(families["smi_mesh_tcp_received_bytes"], "smi_mesh_tcp_received_bytes_total", **where) == 2002
    )
    assert value(families["smi_mesh_tcp_seconds"], "smi_mesh_tcp_seconds_total", **where) == 2.0
    closed = families["smi_mesh_tcp_closed"]
    assert value(closed, "smi_mesh_tcp_closed_total", **where, reason="") == 1
    assert value(closed, "smi_mesh_tcp_closed_total", **where, reason="drain") == 1


def test_denials_counters_and_gauges() -> None:
    telemetry = Telemetry()
    telemetry.denial("route-not-allowed", "0123456789ab", "shop/api")
    telemetry.denial("route-not-allowed", "0123456789ab", "shop/api")
    retries = telemetry.counter("smi_mesh_retries_total", "Retries.", ("service",))
    assert telemetry.counter("smi_mesh_retries_total", "Retries.", ("service",)) is retries
    retries.add(("shop/api",), 3)
    with pytest.raises(ValueError, match="already has labels"):
        telemetry.counter("smi_mesh_retries_total", "Retries.", ("other",))
    open_now = 7
    telemetry.gauge("smi_mesh_connections", "Open.", ("kind",), lambda: [(("client",), open_now)])
    open_now = 8
    families = scrape(telemetry)
    labels = {"reason": "route-not-allowed", "id": "0123456789ab", "target": "shop/api"}
    assert value(families["smi_mesh_denials"], "smi_mesh_denials_total", **labels) == 2
    assert value(families["smi_mesh_retries"], "smi_mesh_retries_total", service="shop/api") == 3
    assert value(families["smi_mesh_connections"], "smi_mesh_connections", kind="client") == 8


def test_what_exceeds_the_bound_is_counted_as_overflow() -> None:
    telemetry = Telemetry(limit=5)
    for number in range(20):
        telemetry.http("inbound", f"peer-{number}", "", "", 200, "", 0.01)
        telemetry.tcp_open("inbound", f"peer-{number}", "", "").close(1, 1, 0.1)
        telemetry.denial("no-identity", f"id-{number}", "")
    families = scrape(telemetry)
    for family, name in (
        ("smi_mesh_requests", "smi_mesh_requests_total"),
        ("smi_mesh_tcp_opened", "smi_mesh_tcp_opened_total"),
        ("smi_mesh_denials", "smi_mesh_denials_total"),
    ):
        samples = [sample for sample in families[family].samples if sample.name == name]
        assert len(samples) == 6
        assert sum(sample.value for sample in samples) == 20
        rest = [sample.value for sample in samples if OVERFLOW in sample.labels.values()]
        assert rest == [15]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_label_text_survives_the_text_format(text: str) -> None:
    telemetry = Telemetry()
    telemetry.denial(text, "id", "target")
    (sample,) = scrape(telemetry)["smi_mesh_denials"].samples
    assert sample.labels["reason"] == text


def test_which_pod_it_was_is_given_up_before_which_workload() -> None:
    telemetry = Telemetry(limit=10)
    for number in range(100):
        name = ("inbound", WEB, "shop/api", "", f"shop/web-{number}", "Deployment/web")
        telemetry.http_series(*name).observe(200, "", 0.01)
    pods = {edge.pod for edge, _ in telemetry.http_edges()}
    assert pods == {"", *(f"shop/web-{number}" for number in range(5))}
    assert {edge.workload for edge, _ in telemetry.http_edges()} == {"Deployment/web"}
    assert sum(count for _, series in telemetry.http_edges() for count in series.outcomes.values()) == 100
    folded = scrape(telemetry)["smi_mesh_series_folded"].samples
    assert {(sample.labels["family"], sample.labels["into"]): sample.value for sample in folded} == {
        ("http", "workload"): 95,
        ("http", OVERFLOW): 0,
        ("tcp", "workload"): 0,
        ("tcp", OVERFLOW): 0,
    }


def test_a_server_cannot_make_outcomes_without_end() -> None:
    series = Telemetry().http_series("outbound", "", "shop/api", "")
    for status in range(100, 1000):
        series.observe(status, "", 0.01, grpc=str(status))
    assert len(series.exchanges) <= MAX_OUTCOMES + 9
    assert sum(same.count for same in series.exchanges.values()) == 900
    assert series.outcomes[500, OVERFLOW] == 100, "the class is kept: failures stay failures"
    assert set(series.grpc) == {"other"}


def test_denials_name_the_traffic_targets_that_came_near() -> None:
    telemetry = Telemetry()
    nearest = ("shop/a: it has no rule for HTTP", "shop/b: its HTTP rules resolve to no match")
    telemetry.denial("route-not-allowed", "0123456789ab", "shop/api-1", nearest)
    telemetry.denial("route-not-allowed", "0123456789ab", "shop/api-1", nearest[:1])
    samples = scrape(telemetry)["smi_mesh_traffic_target_denials"].samples
    assert {sample.labels["traffic_target"]: sample.value for sample in samples} == {"shop/a": 2, "shop/b": 1}


def test_bodies_are_measured_where_there_are_any() -> None:
    series = Telemetry().http_series("outbound", "", "shop/api", "")
    series.observe(200, "", 0.01, request_bytes=100, response_bytes=101)
    series.observe(200, "", 0.01)
    (same,) = series.exchanges.values()
    assert (same.request_bytes, same.response_bytes) == (100, 101)
    assert (sum(same.request_sizes), sum(same.response_sizes)) == (1, 1)
    assert same.request_sizes[SIZES.index(100)] == 1, "bounds are inclusive"
    assert same.response_sizes[SIZES.index(250)] == 1
