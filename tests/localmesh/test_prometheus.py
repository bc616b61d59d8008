"""The Prometheus beside a cluster: its configuration, and what it is told of pods."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from localmesh.prometheus import Prometheus, Wanted, configuration, target


def pod(name: str, ip: str = "127.0.0.1", **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"app": name},
            "annotations": {f"prometheus.io/{key}": value for key, value in annotations.items()},
        },
        "spec": {"containers": [{"name": "app", "image": "none"}]},
        "status": {"phase": "Running", "podIP": ip},
    }


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("groups: []\n")
    wanted = Wanted(2.5, (rules,), ("example.org/port",))
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration(wanted, tmp_path / "targets.json")))
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: `make system` installs it with Prometheus"
    done = subprocess.run(
        [promtool, "check", "config", str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pod_has_the_labels_of_kubernetes_discovery() -> None:
    found = pod("web-1", "10.0.0.7", scrape="true")
    found["metadata"] |= {"namespace": "shop", "uid": "u"}
    assert target(found) == {
        "targets": ["10.0.0.7"],
        "labels": {
            "__meta_kubernetes_namespace": "shop",
            "__meta_kubernetes_pod_name": "web-1",
            "__meta_kubernetes_pod_uid": "u",
            "__meta_kubernetes_pod_ip": "10.0.0.7",
            "__meta_kubernetes_pod_phase": "Running",
            "__meta_kubernetes_pod_node_name": "",
            "__meta_kubernetes_pod_label_app": "web-1",
            "__meta_kubernetes_pod_labelpresent_app": "true",
            "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
            "__meta_kubernetes_pod_annotationpresent_prometheus_io_scrape": "true",
        },
    }
    assert target(pod("early", "")) is None


def test_a_machine_without_prometheus_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Prometheus.missing() == ""
    monkeypatch.setenv("PATH", "/nowhere")
    assert "Debian's package `prometheus`" in Prometheus.missing()
