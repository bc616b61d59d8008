"""Open Service Mesh's SMI metrics."""

from __future__ import annotations

from dataplane.telemetry import Telemetry
from tests.dataplane.dialects.scraped import WEB, scrape, value


def test_only_what_is_sent_is_counted_with_both_pods() -> None:
    telemetry = Telemetry()
    telemetry.http_series("inbound", WEB, "shop/api", "", "shop/web-1", "Deployment/web").observe(
        200, "", 0.1
    )
    to = telemetry.http_series("outbound", WEB, "shop/web", "", "shop/web-1", "Deployment/web")
    to.observe(200, "", 0.02)
    to.observe(200, "", 0.02, grpc="0")
    to.observe(503, "connect-failed", 0.02)
    families = scrape(telemetry, "osm")
    where = {
        "source_namespace": "shop",
        "source_kind": "Deployment",
        "source_name": "api",
        "source_pod": "api-6d4cf56db6-x7x2p",
        "destination_namespace": "shop",
        "destination_kind": "Deployment",
        "destination_name": "web",
        "destination_pod": "web-1",
    }
    requests = families["osm_request"]
    assert sum(sample.value for sample in requests.samples) == 3
    assert value(requests, "osm_request_total", **where, response_code="200") == 2
    assert value(requests, "osm_request_total", **where, response_code="503") == 1
    duration = families["osm_request_duration_ms"]
    assert all(sample.labels.keys() <= {*where, "le"} for sample in duration.samples)
    assert value(duration, "osm_request_duration_ms_bucket", **where, le="10") == 0
    assert value(duration, "osm_request_duration_ms_bucket", **where, le="25") == 3
