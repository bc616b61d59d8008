"""The plugin as kubectl runs it, through a real API server and controller."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.controller.metricsapi.build import document, row
from tests.controller.metricsapi.test_server import Shop, shop

__all__ = ["shop"]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl"),
    pytest.mark.timeout(120),
]


async def kubectl(shop: Shop, *words: str, fails: bool = False) -> tuple[str, str]:
    """`kubectl traffic …` with the console script on PATH; (stdout, stderr)."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(shop.running.state_dir),
        "KUBECONFIG": str(shop.running.server.kubeconfig_path),
    }
    process = await asyncio.create_subprocess_exec(
        "kubectl",
        "traffic",
        *words,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode != 0) is fails, f"{words}: {process.returncode}\n{out.decode()}{err.decode()}"
    return out.decode(), err.decode()


async def test_top(shop: Shop) -> None:
    out, err = await kubectl(shop, "top", "pods", "-n", "shop")
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["NAME", "SUCCESS", "RPS"],
        ["api-0", "87.50%", "0.3rps"],
        ["web-0", "-", "-"],
    ]
    assert err == ""
    out, _ = await kubectl(shop, "top", "ns")
    assert out.splitlines()[1].split()[:2] == ["shop", "87.50%"]
    out, _ = await kubectl(shop, "top", "pods", "api-0", "-n", "shop", "-o", "json")
    assert json.loads(out)["resource"]["name"] == "api-0"
    out, err = await kubectl(shop, "top", "jobs", "-A")
    assert (out, err) == ("", "no traffic of jobs in the last 30 s\n")
    _, err = await kubectl(shop, "top", "pods", "nobody", "-n", "shop", fails=True)
    assert '"nobody" not found' in err


async def test_topology_and_missing_proxies(shop: Shop) -> None:
    out, _ = await kubectl(shop, "topology", "pods", "-n", "shop")
    assert "│ web-0 │─────▶│ api-0" in out
    file = shop.running.state_dir / "graph.svg"
    out, err = await kubectl(shop, "topology", "pods", "-A", "-o", "svg", "-f", str(file))
    assert (out, err) == ("", "")
    assert file.read_text().startswith("<svg")
    shop.answers[next(iter(shop.answers))] = {}
    async with asyncio.timeout(20):  # what was read a moment ago is answered once more
        while "proxies did not answer" not in err:
            _, err = await kubectl(shop, "top", "pods", "-n", "shop")
    assert "Warning: 1 of 2 proxies did not answer: shop/web-0" in err


async def test_splits(shop: Shop) -> None:
    split = {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "canary", "namespace": "shop"},
        "spec": {
            "service": "api",
            "backends": [{"service": "api-v1", "weight": 90}, {"service": "api-v2", "weight": 10}],
        },
    }
    await shop.running.create(split)
    web_ip = next(iter(shop.answers))
    shop.answers[web_ip] = document(
        "shop/web-0",
        row("outbound", "shop/api-0", 9, service="shop/api", backend="shop/api-v1", split="shop/canary"),
    )
    async with asyncio.timeout(20):
        while True:
            out, _ = await kubectl(shop, "top", "splits", "-n", "shop")
            rows = [line.split()[:5] for line in out.splitlines()[1:]]
            if rows == [
                ["canary", "api", "api-v1", "90", "100.0%"],
                ["canary", "api", "api-v2", "10", "0.0%"],
            ]:
                break
