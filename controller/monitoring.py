"""Recording rules, alert rules and Grafana dashboards of the mesh: what a user's monitoring is given.

Pure data, written into the chart by `controller.chart` and loaded by `smi-mesh local up --prometheus`. They
query the mesh's own metrics (`smi_mesh_*`), which every choice of dialects should include.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

OBJECTIVE: Final = 0.99
"""Share of requests that should not fail: what the error budget is counted from."""
_BUDGET: Final = f"{1 - OBJECTIVE:g}"
_WINDOWS: Final = ("5m", "30m", "1h", "6h")
_SENT: Final = 'direction="outbound",service!=""'
"""Each request once, where it was sent from."""
_FAILED: Final = 'status=~"0|5.."'


# --- recording rules ----------------------------------------------------------------------------------------


def _records() -> Iterator[Json]:
    yield _record(
        "service:smi_mesh_requests:rate5m", f"sum by (service) (rate(smi_mesh_requests_total{{{_SENT}}}[5m]))"
    )
    for window in _WINDOWS:
        every = f"sum by (service) (rate(smi_mesh_requests_total{{{_SENT}}}[{window}]))"
        failed = f"sum by (service) (rate(smi_mesh_requests_total{{{_SENT},{_FAILED}}}[{window}]))"
        # Without a failure there is no series of failures: then the ratio is 0, not missing.
        yield _record(f"service:smi_mesh_failures:ratio_rate{window}", f"({failed} or 0 * {every}) / {every}")
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        buckets = f"sum by (service, le) (rate(smi_mesh_request_duration_seconds_bucket{{{_SENT}}}[5m]))"
        yield _record(
            f"service:smi_mesh_request_duration_seconds:{name}_rate5m",
            f"histogram_quantile({quantile:g}, {buckets})",
        )
    picks = "rate(smi_mesh_split_picks_total[5m])"
    yield _record(
        "split_backend:smi_mesh_split_share:observed5m",
        f"sum by (split, backend) ({picks}) / on (split) group_left () sum by (split) ({picks})",
    )
    yield _record(
        "split_backend:smi_mesh_split_share:wanted",
        "max by (split, backend) (smi_mesh_split_weight_ratio)",
    )
    yield _record(
        "target:smi_mesh_denials:rate5m", "sum by (target, reason) (rate(smi_mesh_denials_total[5m]))"
    )


def _record(name: str, query: str) -> Json:
    return {"record": name, "expr": query}


# --- alerts -------------------------------------------------------------------------------------------------


def _alerts() -> Iterator[Json]:
    left = "smi_mesh_certificate_expiry_timestamp_seconds - time()"
    failing = "increase(smi_mesh_certificate_failures_total[30m]) > 0"
    yield _alert(
        "SmiMeshCertificateExpiring",
        f"({left} < 3600) and {failing}",
        "5m",
        "critical",
        "The certificate of {{ $labels.pod }} cannot be renewed",
        "It ends in {{ $value | humanizeDuration }}; from then on no peer talks to the pod. The sidecar's "
        "log says why the controller does not sign.",
    )
    yield _alert(
        "SmiMeshCertificateExpired",
        f"{left} < 0",
        "0m",
        "critical",
        "The certificate of {{ $labels.pod }} has expired",
        "Peers refuse the pod, and it refuses them.",
    )
    yield _alert(
        "SmiMeshRootExpiring",
        "smi_mesh_controller_root_expiry_timestamp_seconds - time() < 14 * 86400",
        "1h",
        "warning",
        "The mesh's root certificate ends in less than two weeks",
        "A root that the mesh made itself is renewed long before; one of your own is yours to renew (Secret "
        "smi-mesh-ca).",
    )
    now = "sum by (target) (rate(smi_mesh_denials_total[5m]))"
    before = "sum by (target) (rate(smi_mesh_denials_total[1h] offset 5m))"
    yield _alert(
        "SmiMeshDenialSpike",
        f"({now} > 0.2) and ({now} > 3 * ({before} or 0 * {now}))",
        "5m",
        "warning",
        "Many more requests to {{ $labels.target }} are refused than before",
        "A TrafficTarget is missing or was narrowed, or somebody tries doors. `smi_mesh_denials_total` has "
        "reason and denial id, `smi_mesh_traffic_target_denials_total` the TrafficTargets that came near.",
    )
    yield _alert(
        "SmiMeshControllerLost",
        "smi_mesh_controller_connected == 0",
        "5m",
        "warning",
        "The proxy of {{ $labels.pod }} has no connection to the controller",
        "It goes on with the configuration it has; changes and new certificates do not reach it.",
    )
    revision = "max(smi_mesh_controller_revision)"
    yield _alert(
        "SmiMeshConfigStale",
        f"smi_mesh_config_revision < scalar({revision})",
        "5m",
        "warning",
        "The proxy of {{ $labels.pod }} does not run the latest configuration",
        "It runs revision {{ $value }}. If it refused an update, its log and "
        '`smi_mesh_config_updates_total{outcome="refused"}` say so.',
    )
    yield _alert(
        "SmiMeshConfigRefused",
        'increase(smi_mesh_config_updates_total{outcome="refused"}[15m]) > 0',
        "0m",
        "critical",
        "The proxy of {{ $labels.pod }} refused a configuration",
        "It goes on with the former one. Controller and sidecars may be of different versions.",
    )
    yield _burn("SmiMeshErrorBudgetBurnsFast", "1h", "5m", 14.4, "2m", "critical", "within two days")
    yield _burn("SmiMeshErrorBudgetBurns", "6h", "30m", 6, "15m", "warning", "within five days")
    yield _alert(
        "SmiMeshBackendWithoutEndpoints",
        "sum by (split, backend) (rate(smi_mesh_split_skipped_total[5m])) > 0",
        "10m",
        "warning",
        "Backend {{ $labels.backend }} of TrafficSplit {{ $labels.split }} has no ready endpoint",
        "Its share goes to the other backends.",
    )


def _burn(name: str, window: str, short: str, factor: float, patience: str, severity: str, when: str) -> Json:
    """Multi-window, multi-burn-rate: the long window says that it matters, the short one that it goes on."""
    ratio = "service:smi_mesh_failures:ratio_rate"
    limit = f"{factor:g} * {_BUDGET}"
    return _alert(
        name,
        f"({ratio}{window} > {limit}) and ({ratio}{short} > {limit})",
        patience,
        severity,
        "Requests to {{ $labels.service }} fail too often",
        f"{{{{ $value | humanizePercentage }}}} fail over {window}; a month's error budget of {_BUDGET} is "
        f"gone {when}.",
    )


def _alert(name: str, query: str, patience: str, severity: str, summary: str, description: str) -> Json:
    return {
        "alert": name,
        "expr": query,
        "for": patience,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def rules() -> Json:
    """A Prometheus rule file; also the `spec` of a PrometheusRule."""
    return {
        "groups": [
            {"name": "smi-mesh.records", "rules": list(_records())},
            {"name": "smi-mesh.alerts", "rules": list(_alerts())},
        ]
    }


# --- dashboards ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    queries: tuple[tuple[str, str], ...]
    """(PromQL, legend)."""
    unit: str = "short"
    """Grafana's name of the unit."""
    kind: str = "timeseries"


_SERVICES: Final = (
    _Panel("Requests per second", (("service:smi_mesh_requests:rate5m", "{{service}}"),), "reqps"),
    _Panel("Share of failures", (("service:smi_mesh_failures:ratio_rate5m", "{{service}}"),), "percentunit"),
    _Panel(
        "Latency (p50, p90, p99)",
        tuple(
            (f"service:smi_mesh_request_duration_seconds:{name}_rate5m", f"{{{{service}}}} {name}")
            for name in ("p50", "p90", "p99")
        ),
        "s",
    ),
    _Panel(
        "Answers by status",
        (
            (
                f"sum by (service, status) (rate(smi_mesh_requests_total{{{_SENT}}}[5m]))",
                "{{service}} {{status}}",
            ),
        ),
        "reqps",
    ),
    _Panel(
        "Answers of the proxies themselves, by reason",
        (
            (
                'sum by (direction, reason) (rate(smi_mesh_requests_total{reason!=""}[5m]))',
                "{{direction}} {{reason}}",
            ),
        ),
        "reqps",
    ),
    _Panel(
        "Opaque connections opened per second",
        (("sum by (service) (rate(smi_mesh_tcp_opened_total[5m]))", "{{service}}"),),
        "cps",
    ),
)
_POLICY: Final = (
    _Panel(
        "Share of each backend, wanted and observed",
        (
            ("split_backend:smi_mesh_split_share:wanted", "{{split}} {{backend}} wanted"),
            ("split_backend:smi_mesh_split_share:observed5m", "{{split}} {{backend}} observed"),
        ),
        "percentunit",
    ),
    _Panel(
        "Turns per second that a backend was left out of",
        (("sum by (split, backend) (rate(smi_mesh_split_skipped_total[5m]))", "{{split}} {{backend}}"),),
    ),
    _Panel("Refusals per second", (("target:smi_mesh_denials:rate5m", "{{target}} {{reason}}"),), "reqps"),
    _Panel(
        "Refusals by the TrafficTargets that came near",
        (
            (
                "sum by (traffic_target, reason) (rate(smi_mesh_traffic_target_denials_total[5m]))",
                "{{traffic_target}} {{reason}}",
            ),
        ),
        "reqps",
    ),
)
_PROXIES: Final = (
    _Panel(
        "Certificates: time left",
        (("smi_mesh_certificate_expiry_timestamp_seconds - time()", "{{pod}}"),),
        "s",
    ),
    _Panel(
        "Revisions behind the controller",
        # A proxy may have been scraped after the controller, and be ahead of what that said.
        (("clamp_min(scalar(max(smi_mesh_controller_revision)) - smi_mesh_config_revision, 0)", "{{pod}}"),),
    ),
    _Panel("Proxies with a config stream", (("smi_mesh_controller_proxies", "proxies"),), kind="stat"),
    _Panel("Connections", (("smi_mesh_connections", "{{pod}}"),)),
    _Panel("Idle pooled connections", (("smi_mesh_pool_idle", "{{pod}} to {{to}}"),)),
    _Panel("Requests under way", (("smi_mesh_requests_active", "{{pod}} {{direction}}"),)),
    _Panel("Memory", (("process_resident_memory_bytes", "{{pod}}"),), "bytes"),
    _Panel("CPU", (("rate(process_cpu_seconds_total[5m])", "{{pod}}"),)),
    _Panel(
        "Series folded together",
        (("sum by (pod, family, into) (smi_mesh_series_folded_total)", "{{pod}} {{family}} {{into}}"),),
    ),
)
_DASHBOARDS: Final = (
    ("smi-mesh-services", "smi-mesh / Services", _SERVICES),
    ("smi-mesh-policy", "smi-mesh / Splits and access", _POLICY),
    ("smi-mesh-proxies", "smi-mesh / Proxies and control plane", _PROXIES),
)


def dashboards() -> dict[str, Json]:
    """Name → Grafana dashboard."""
    return {name: _dashboard(name, title, panels) for name, title, panels in _DASHBOARDS}


def dashboard_queries() -> Iterator[str]:
    """Every query of every dashboard."""
    for _, _, panels in _DASHBOARDS:
        for panel in panels:
            yield from (query for query, _ in panel.queries)


def _dashboard(name: str, title: str, panels: Sequence[_Panel]) -> Json:
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    return {
        "uid": name,
        "title": title,
        "tags": ["smi-mesh"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: _Panel) -> Json:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": source,
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
        if panel.kind == "timeseries"
        else {},
        "targets": [
            {"refId": chr(65 + index), "datasource": source, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }
