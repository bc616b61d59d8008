"""Rules and dashboards: what promtool says of them, and that every alert goes off when it should."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from controller.chart import chart
from controller.monitoring import dashboard_queries, dashboards, rules

POD = 'pod="web-1"'
SENT = 'direction="outbound",peer="",service="shop/api",backend=""'
LABELS = {"pod": "web-1"}

BUDGET = "450m"
LONG = "5m"
"""How often rules are evaluated in the cases that span hours: each minute would take promtool seconds."""

FIRING: dict[str, tuple[dict[str, str], str, dict[str, str]]] = {
    # alert: (series → promtool's notation of values, one a minute), when it fires, with which labels
    "SmiMeshCertificateExpiring": (
        {
            f"smi_mesh_certificate_expiry_timestamp_seconds{{{POD}}}": "9000x120",
            f"smi_mesh_certificate_failures_total{{{POD}}}": "0+1x120",
        },
        "100m",
        LABELS,
    ),
    "SmiMeshCertificateExpired": (
        {f"smi_mesh_certificate_expiry_timestamp_seconds{{{POD}}}": "60x10"},
        "2m",
        LABELS,
    ),
    "SmiMeshRootExpiring": ({"smi_mesh_controller_root_expiry_timestamp_seconds": "86400x120"}, "70m", {}),
    "SmiMeshDenialSpike": (
        {'smi_mesh_denials_total{target="shop/api-1",reason="no-identity",id="0"}': "0x60 0+60x30"},
        "72m",
        {"target": "shop/api-1"},
    ),
    "SmiMeshControllerLost": ({f"smi_mesh_controller_connected{{{POD}}}": "1x5 0x20"}, "15m", LABELS),
    "SmiMeshConfigStale": (
        {f"smi_mesh_config_revision{{{POD}}}": "7x30", "smi_mesh_controller_revision": "7x5 8x25"},
        "15m",
        LABELS,
    ),
    "SmiMeshConfigRefused": (
        {f'smi_mesh_config_updates_total{{{POD},outcome="refused"}}': "0x5 1x20"},
        "8m",
        {**LABELS, "outcome": "refused"},
    ),
    "SmiMeshErrorBudgetBurnsFast": (
        {
            f'smi_mesh_requests_total{{{SENT},status="200",reason=""}}': "0+80x120",
            f'smi_mesh_requests_total{{{SENT},status="503",reason=""}}': "0+20x120",
        },
        "70m",
        {"service": "shop/api"},
    ),
    "SmiMeshErrorBudgetBurns": (
        {
            f'smi_mesh_requests_total{{{SENT},status="200",reason=""}}': "0+90x500",
            f'smi_mesh_requests_total{{{SENT},status="503",reason=""}}': "0+10x500",
        },
        BUDGET,
        {"service": "shop/api"},
    ),
    "SmiMeshBackendWithoutEndpoints": (
        {'smi_mesh_split_skipped_total{split="shop/s",service="a",port="1",backend="shop/b"}': "0+5x30"},
        "20m",
        {"split": "shop/s", "backend": "shop/b"},
    ),
}
QUIET = {
    f"smi_mesh_certificate_expiry_timestamp_seconds{{{POD}}}": "86400x500",
    f"smi_mesh_certificate_failures_total{{{POD}}}": "0x500",
    "smi_mesh_controller_root_expiry_timestamp_seconds": "315360000x500",
    'smi_mesh_denials_total{target="shop/api-1",reason="no-identity",id="0"}': "0+30x500",
    f"smi_mesh_controller_connected{{{POD}}}": "1x500",
    f"smi_mesh_config_revision{{{POD}}}": "7x500",
    "smi_mesh_controller_revision": "7x500",
    f'smi_mesh_config_updates_total{{{POD},outcome="refused"}}': "2x500",
    f'smi_mesh_requests_total{{{SENT},status="200",reason=""}}': "0+997x500",
    f'smi_mesh_requests_total{{{SENT},status="503",reason=""}}': "0+3x500",
    'smi_mesh_split_skipped_total{split="shop/s",service="a",port="1",backend="shop/b"}': "9x500",
}
"""A mesh where all is as it should be, a few refusals and failures included."""


def promtool(*arguments: str, folder: Path) -> str:
    binary = shutil.which("promtool")
    assert binary, "promtool is missing: `make system` installs it with Prometheus"
    done = subprocess.run(
        [binary, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(chart()["rules/smi-mesh.yaml"])
    return path


def test_promtool_takes_the_rules(rule_file: Path) -> None:
    count = sum(len(group["rules"]) for group in rules()["groups"])
    assert f"SUCCESS: {count} rules found" in promtool(
        "check", "rules", rule_file.name, folder=rule_file.parent
    )


def test_every_alert_goes_off_and_none_without_a_reason(rule_file: Path) -> None:
    alerts = {
        rule["alert"]: rule for group in rules()["groups"] for rule in group["rules"] if "alert" in rule
    }
    assert alerts.keys() == FIRING.keys()
    plans: dict[str, list[dict[str, Any]]] = {"1m": [], LONG: []}
    for name, (series, when, labels) in FIRING.items():
        interval = LONG if when == BUDGET else "1m"
        plans[interval].append(_case(series, _expected(alerts, name, when, labels)))
    quiet = [{"eval_time": "480m", "alertname": name, "exp_alerts": []} for name in alerts]
    plans[LONG].append(_case(QUIET, quiet))
    for interval, tests in plans.items():
        plan = {"rule_files": [rule_file.name], "evaluation_interval": interval, "tests": tests}
        (rule_file.parent / "tests.yaml").write_text(yaml.safe_dump(plan))
        promtool("test", "rules", "tests.yaml", folder=rule_file.parent)


def _case(series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    given = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": given, "alert_rule_test": expected}


def _expected(alerts: dict[str, Any], name: str, when: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """promtool compares annotations to the letter; here only that and how it fires is of interest."""
    rule = alerts[name]
    annotations = {
        "summary": rule["annotations"]["summary"],
        "description": rule["annotations"]["description"],
    }
    for label, value in labels.items():
        annotations = {
            key: text.replace(f"{{{{ $labels.{label} }}}}", value) for key, text in annotations.items()
        }
    shown = {**labels, "severity": rule["labels"]["severity"]}
    values = {
        "SmiMeshCertificateExpiring": ("{{ $value | humanizeDuration }}", "50m 0s"),
        "SmiMeshConfigStale": ("{{ $value }}", "7"),
        "SmiMeshErrorBudgetBurnsFast": ("{{ $value | humanizePercentage }}", "20%"),
        "SmiMeshErrorBudgetBurns": ("{{ $value | humanizePercentage }}", "10%"),
    }
    if name in values:
        before, after = values[name]
        annotations = {key: text.replace(before, after) for key, text in annotations.items()}
    return [
        {
            "eval_time": when,
            "alertname": name,
            "exp_alerts": [{"exp_labels": shown, "exp_annotations": annotations}],
        }
    ]


def test_dashboards_are_complete() -> None:
    files = chart()
    for name, dashboard in dashboards().items():
        assert json.loads(files[f"dashboards/{name}.json"]) == dashboard
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
        assert len(places) == len(ids), "no panel hides another"
    queries = {
        target["expr"]
        for dashboard in dashboards().values()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    assert queries == set(dashboard_queries())


def test_grafanas_own_sdk_reads_the_dashboards_and_loses_nothing() -> None:
    """Its models are generated from Grafana's schema; what they do not know would not come back."""
    plugins.register_default_plugins()
    for dashboard in dashboards().values():
        read = Dashboard.from_json(dashboard)
        assert len(read.panels or []) == len(dashboard["panels"])
        written = json.loads(json.dumps(read, cls=JSONEncoder))
        assert list(_lost(dashboard, written, "$")) == []


def _lost(given: Any, back: Any, where: str) -> Iterator[str]:
    """Where `back` has not what `given` has; it may have more: what the SDK fills in."""
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            yield from _lost(value, back.get(key), f"{where}.{key}")
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for index, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from _lost(one, other, f"{where}[{index}]")
    elif given != back:
        yield f"{where}: {given!r} became {back!r}"
