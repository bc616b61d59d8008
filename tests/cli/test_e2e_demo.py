"""The demo for real: a cluster, proxies, requests, and a clean machine afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.demo.story import LIVE_SECONDS, STORY
from localmesh.cluster import leftovers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

MODES = ["loopback", *(["netns"] if os.geteuid() == 0 else [])]


def smi_mesh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("mode", MODES)
def test_everything_comes_out_as_announced(tmp_path: Path, mode: str) -> None:
    state = tmp_path / "demo"
    done = smi_mesh("demo", "--mode", mode, "--state-dir", str(state), "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["ok"] is True
    assert told["mode"] == mode
    assert told["seconds"] < 90
    assert list(told["steps"]) == [step.title for step in STORY]
    for step in STORY:
        if step.live_within is not None:
            assert told["live_seconds"][step.title] < LIVE_SECONDS
    assert leftovers(state) == []
    assert not state.exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_cluster_of_ones_own(tmp_path: Path, mode: str) -> None:
    state = str(tmp_path / "local")
    try:
        up = json.loads(smi_mesh("local", "up", "--mode", mode, "--state-dir", state, "-o", "json").stdout)
        assert up["mode"] == mode
        assert up["seconds"] < 15
        assert Path(up["kubeconfig"]).stat().st_mode & 0o077 == 0
        again = smi_mesh("local", "up", "--state-dir", state)
        assert again.stdout == f"export KUBECONFIG={up['kubeconfig']}\n"
        status = json.loads(smi_mesh("local", "status", "--state-dir", state, "-o", "json").stdout)
        assert len(status["nodes"]) == 1
        assert status["proxies"]["proxies"] == []
        assert status["limits"]
        assert "smi-mesh controller" in smi_mesh("local", "logs", "controller", "--state-dir", state).stdout
        assert "ready" in smi_mesh("local", "logs", "--state-dir", state).stdout
    finally:
        down = smi_mesh("local", "down", "--state-dir", state, "-o", "json")
    assert json.loads(down.stdout)["existed"] is True
    assert leftovers(Path(state)) == []


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "demo"
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "demo", "--state-dir", str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("2/"):
                demo.send_signal(signal.SIGINT)
                break
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert leftovers(state) == []
    assert not state.exists()
