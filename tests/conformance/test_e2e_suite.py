"""The command against a real embedded cluster: exit codes, reports, and nothing left after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.harness import Cluster, start_cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    state = tmp_path_factory.mktemp("conformance")
    running = start_cluster(state)
    yield running
    subprocess.run([*running.command, "local", "down", "--state-dir", str(state)], check=True, timeout=60)


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster as somebody without root has it: nothing is intercepted, applications use the proxy."""
    state = tmp_path_factory.mktemp("loopback")
    running = start_cluster(state, "--mode", "loopback")
    yield running
    subprocess.run([*running.command, "local", "down", "--state-dir", str(state)], check=True, timeout=60)


def command(cluster: Cluster, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "cli",
        "conformance",
        "run",
        "--kubeconfig",
        str(cluster.kubeconfig),
        *arguments,
    ]


def namespaces(cluster: Cluster) -> list[str]:
    names = [item["metadata"]["name"] for item in cluster.get("namespaces")["items"]]
    return [name for name in names if name.startswith("smi-conformance-")]


def test_a_selection_passes_but_is_no_verdict(cluster: Cluster, tmp_path: Path) -> None:
    report = tmp_path / "report.yaml"
    arguments = command(cluster, "--case", "weights-half,deny-by-default", "--report", str(report))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == "2 passed, 0 failed, 0 skipped", done.stderr
    assert done.returncode == 3
    found = yaml.safe_load(report.read_text())
    assert (found["verdict"], found["mesh"], found["complete"]) == ("partial", "smi-mesh", False)
    assert namespaces(cluster) == []


def test_where_nothing_is_intercepted_less_is_claimed(loopback: Cluster, tmp_path: Path) -> None:
    report = tmp_path / "report.yaml"
    chosen = "weights-half,http2-weights,tcp-weights,deny-by-default,grpc-method,udp-weights,probes-pass"
    arguments = command(loopback, "--case", chosen, "--parallel", "2", "--report", str(report))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=150, check=False)
    assert done.stdout.splitlines()[-1] == "5 passed, 0 failed, 2 skipped", done.stderr
    found = yaml.safe_load(report.read_text())
    assert found["environment"]["network"] == "loopback"
    assert {case["name"] for case in found["cases"] if case["outcome"] == "skipped"} == {
        "udp-weights",
        "probes-pass",
    }


def test_an_interrupted_run_leaves_nothing(cluster: Cluster) -> None:
    process = subprocess.Popen(
        command(cluster, "--group", "split"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    )
    deadline = time.monotonic() + 60
    while not namespaces(cluster):
        assert time.monotonic() < deadline, "no namespace appeared"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert b"interrupted" in errors
    assert b" passed, 0 failed, " in output
    assert namespaces(cluster) == []


def test_an_unknown_case_starts_nothing(cluster: Cluster) -> None:
    done = subprocess.run(
        command(cluster, "--case", "nope"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "no case has the case nope" in done.stderr
