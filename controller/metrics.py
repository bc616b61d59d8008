"""The controller's own metrics: one registry per controller, nothing global."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Every metric, by what it counts. `render` gives the text a scrape is answered with."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"smi_mesh_controller_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"smi_mesh_controller_{name}", text, labels, registry=registry)

        self.revision = gauge("revision", "Revision published last.")
        self.compile_seconds = Histogram(
            "smi_mesh_controller_compile_seconds",
            "Duration of compilations by outcome.",
            ("outcome",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.findings = gauge("findings", "Findings of the latest snapshot.", "severity", "reason")
        self.watch_restarts = counter("watch_restarts", "Times all watches had to be started again.")
        self.proxies = gauge("proxies", "Proxies with an open discovery stream.")
        self.updates = counter("updates", "Updates sent to proxies.")
        self.update_bytes = counter("update_bytes", "Bytes sent to proxies on discovery streams.")
        self.nacks = counter("nacks", "Updates that proxies refused.")
        self.stream_errors = counter("stream_errors", "Discovery streams ended for what the client did.")
        self.signings = counter("signings", "Signing requests by outcome.", "outcome")
        self.root_expiry = gauge("root_expiry_timestamp_seconds", "When the signing root expires.")
        self.admissions = counter("admissions", "Webhook requests by path and outcome.", "path", "outcome")
        self.status_writes = counter("status_writes", "Writes of status conditions by outcome.", "outcome")
        self.traffic_queries = counter("traffic_queries", "TrafficMetrics queries by outcome.", "outcome")
        self.events = counter("events", "Kubernetes Events written by outcome.", "outcome")

    def render(self) -> bytes:
        """Prometheus text exposition format."""
        return generate_latest(self.registry)
