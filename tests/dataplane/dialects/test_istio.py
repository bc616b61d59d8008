"""Istio's standard metrics: names, labels and buckets as Istio's proxies have them."""

from __future__ import annotations

from dataplane.telemetry import Telemetry
from tests.dataplane.dialects.scraped import API, OPENMETRICS, WEB, page, scrape, value

BUCKETS = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6]
LABELS = {
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
}
"""As in istio/proxy, testdata/metric/server_request_total.yaml.tmpl, without the two cluster names."""


def test_what_reaches_the_app_is_reported_by_the_destination() -> None:
    telemetry = Telemetry()
    for pod in ("shop/web-1", "shop/web-2"):
        series = telemetry.http_series("inbound", WEB, "shop/api", "", pod, "Deployment/web//v7")
        series.observe(200, "", 0.007, request_bytes=30, response_bytes=3000)
        series.observe(503, "overload", 0.0001)
    telemetry.http("inbound", "", "shop/api", "", 403, "no-identity", 0.001)
    families = scrape(telemetry, "istio")
    requests = families["istio_requests"]
    assert all(sample.labels.keys() == LABELS for sample in requests.samples)
    web = {
        "reporter": "destination",
        "source_workload": "web",
        "source_workload_namespace": "shop",
        "source_principal": WEB,
        "source_app": "unknown",
        "source_version": "v7",
        "source_canonical_service": "web",
        "source_canonical_revision": "v7",
        "destination_workload": "api",
        "destination_workload_namespace": "shop",
        "destination_principal": API,
        "destination_service": "api.shop.svc.cluster.local",
        "destination_service_name": "api",
        "destination_service_namespace": "shop",
        "request_protocol": "http",
        "connection_security_policy": "mutual_tls",
    }
    name = "istio_requests_total"
    assert value(requests, name, **web, response_code="200", response_flags="-") == 2
    assert value(requests, name, **web, response_code="503", response_flags="OM") == 2
    stranger = {"source_workload": "unknown", "source_principal": "unknown"}
    assert value(requests, name, **stranger, response_code="403", connection_security_policy="none") == 1
    duration = families["istio_request_duration_milliseconds"]
    name = "istio_request_duration_milliseconds"
    fine = {**web, "response_code": "200"}
    bounds = [
        float(sample.labels["le"])
        for sample in duration.samples
        if fine.items() <= sample.labels.items() and "le" in sample.labels
    ]
    assert bounds == [*BUCKETS, float("inf")]
    assert value(duration, f"{name}_bucket", **fine, le="5") == 0
    assert value(duration, f"{name}_bucket", **fine, le="10") == 2
    assert value(duration, f"{name}_sum", **fine) == 14
    sizes = families["istio_response_bytes"]
    assert value(sizes, "istio_response_bytes_sum", **fine) == 6000
    assert value(sizes, "istio_response_bytes_bucket", **fine, le="2500") == 0
    assert value(sizes, "istio_response_bytes_bucket", **fine, le="5000") == 2
    empty = {**web, "response_code": "503"}
    assert value(sizes, "istio_response_bytes_bucket", **empty, le="0.5") == 2, "nothing is a size, too"
    assert value(families["istio_request_bytes"], "istio_request_bytes_sum", **fine) == 60


def test_what_the_app_sends_is_reported_by_the_source_with_the_splits_backend() -> None:
    telemetry = Telemetry()
    telemetry.http_series(
        "outbound", WEB, "shop/web", "shop/web-v2", "shop/web-v2-0", "StatefulSet/web-v2", "shop/canary"
    ).observe(200, "", 0.02, grpc="14")
    families = scrape(telemetry, "istio")
    assert (
        value(
            families["istio_requests"],
            "istio_requests_total",
            reporter="source",
            source_workload="api",
            source_app="api",
            source_version="v1",
            destination_workload="web-v2",
            destination_principal=WEB,
            destination_service="web-v2.shop.svc.cluster.local",
            request_protocol="grpc",
            grpc_response_status="14",
            connection_security_policy="unknown",
        )
        == 1
    )


def test_opaque_connections() -> None:
    telemetry = Telemetry()
    series = telemetry.tcp_open("inbound", WEB, "shop/db", "", "shop/web-1", "Deployment/web")
    series.close(10, 2000, 1.0, "drain")
    telemetry.tcp_open("inbound", WEB, "shop/db", "", "shop/web-2", "Deployment/web")
    families = scrape(telemetry, "istio")
    where = {"reporter": "destination", "source_workload": "web", "request_protocol": "tcp"}
    for name, expected in {
        "istio_tcp_connections_opened": 2,
        "istio_tcp_connections_closed": 1,
        "istio_tcp_sent_bytes": 2000,
        "istio_tcp_received_bytes": 10,
    }.items():
        assert value(families[name], f"{name}_total", **where) == expected
        (sample,) = families[name].samples
        assert sample.labels.keys() == LABELS - {"response_code", "grpc_response_status"}


def test_openmetrics_shows_the_trace_of_an_exchange() -> None:
    telemetry = Telemetry()
    series = telemetry.http_series("inbound", WEB, "shop/api", "")
    series.observe(200, "", 0.007)
    series.example((200, "", ""), "4bf92f3577b34da6a3ce929d0e0e4736", 0.007, 5.0, 1_700_000_000.5)
    assert series.exemplar_due == 6.0
    families = scrape(telemetry, "istio,linkerd,osm,smi", OPENMETRICS)
    for name in (
        "istio_request_duration_milliseconds",
        "response_latency_ms",
        "smi_mesh_request_duration_seconds",
    ):
        found = [sample for sample in families[name].samples if sample.exemplar is not None]
        assert [sample.labels["le"] for sample in found] in (["10.0"], ["0.01"])
        exemplar = found[0].exemplar
        assert exemplar is not None
        assert exemplar.labels == {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
        assert exemplar.value in (7.0, 0.007)
        assert float(exemplar.timestamp) == 1_700_000_000.5
    assert "trace_id" not in page(telemetry, "istio,linkerd,osm,smi"), "the text format has no exemplars"
