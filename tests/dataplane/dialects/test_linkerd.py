"""Linkerd's proxy metrics."""

from __future__ import annotations

from dataplane.telemetry import Own, Telemetry
from tests.dataplane.dialects.scraped import WEB, scrape, value

BUCKETS = [
    *(1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000),
    *(10000, 20000, 30000, 40000, 50000),
]


def test_responses_are_classified() -> None:
    telemetry = Telemetry()
    series = telemetry.http_series("inbound", WEB, "shop/api", "", "shop/web-1", "Deployment/web")
    for status, reason, grpc in (
        (200, "", ""),
        (404, "", ""),
        (500, "", ""),
        (200, "", "0"),
        (200, "", "14"),
        (200, "", "5"),
        (0, "client-gone", ""),
    ):
        series.observe(status, reason, 0.015, grpc)
    families = scrape(telemetry, "linkerd")
    inbound = {
        "direction": "inbound",
        "namespace": "shop",
        "deployment": "api",
        "pod": "api-6d4cf56db6-x7x2p",
        "tls": "true",
        "client_id": WEB,
        "authority": "api.shop.svc.cluster.local",
    }
    total = families["response"]
    found = {
        (sample.labels.get("status_code"), sample.labels["grpc_status"], sample.labels["classification"])
        for sample in total.samples
        if inbound.items() <= sample.labels.items() and sample.value == 1
    }
    assert found == {
        ("200", "", "success"),
        ("404", "", "success"),
        ("500", "", "failure"),
        ("200", "0", "success"),
        ("200", "14", "failure"),
        ("200", "5", "success"),
        (None, "", "failure"),
    }
    assert value(families["request"], "request_total", **inbound) == 7
    latency = families["response_latency_ms"]
    fine = {**inbound, "status_code": "200"}
    bounds = [
        float(sample.labels["le"])
        for sample in latency.samples
        if fine.items() <= sample.labels.items() and "le" in sample.labels
    ]
    assert bounds == [*BUCKETS, float("inf")]
    assert value(latency, "response_latency_ms_bucket", **fine, le="10") == 0
    assert value(latency, "response_latency_ms_bucket", **fine, le="20") == 4


def test_what_is_sent_says_where_it_went() -> None:
    telemetry = Telemetry()
    to = ("outbound", WEB, "shop/web", "shop/web-v2", "shop/web-v2-0", "StatefulSet/web-v2", "shop/canary")
    telemetry.http_series(*to).observe(200, "", 0.02)
    telemetry.tcp_open(*to).close(10, 2000, 1.0)
    telemetry.http("outbound", "", "", "", 200, "", 0.02)
    families = scrape(telemetry, "linkerd", own=Own("shop/lonely"))
    where = {
        "direction": "outbound",
        "authority": "web.shop.svc.cluster.local",
        "pod": "lonely",
        "tls": "true",
        "server_id": WEB,
        "dst_namespace": "shop",
        "dst_service": "web-v2",
        "dst_statefulset": "web-v2",
        "dst_pod": "web-v2-0",
        "dst_serviceaccount": "web",
    }
    assert value(families["response"], "response_total", **where) == 1
    assert value(families["response"], "response_total", tls="no_identity") == 1
    where["peer"] = "dst"
    assert value(families["tcp_open"], "tcp_open_total", **where) == 1
    assert value(families["tcp_open_connections"], "tcp_open_connections", **where) == 0
    assert value(families["tcp_write_bytes"], "tcp_write_bytes_total", **where) == 10
    assert value(families["tcp_read_bytes"], "tcp_read_bytes_total", **where) == 2000
