"""The sidecar as a process: what it is made of, when it is ready, how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from smi.policy.codec import encode_cluster
from smi.policy.snapshot import Endpoint
from tests.dataplane.config import destination
from tests.dataplane.control.authority import Authority
from tests.dataplane.control.stand_in import TOKEN, StandIn
from tests.dataplane.sidecar import Sidecar

FORBIDDEN = ("pydantic", "kopf", "kubernetes", "aiohttp", "cryptography", "prometheus_client", "smi.api")


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[StandIn]:
    stand_in = StandIn(tmp_path, Authority())
    await stand_in.start_identity()
    await stand_in.start_discovery()
    yield stand_in
    await stand_in.stop()


@pytest.fixture
async def sidecar(controller: StandIn, tmp_path: Path) -> AsyncIterator[Sidecar]:
    made = Sidecar(controller, tmp_path)
    await made.start()
    yield made
    await made.stop()


def test_the_start_path_imports_nothing_heavy() -> None:
    code = f"""
import sys, dataplane.__main__
print([name for name in sys.modules for bad in {FORBIDDEN!r} if name == bad or name.startswith(bad + ".")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_bad_environment_ends_with_2_and_names_the_variable() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dataplane"], capture_output=True, text=True, timeout=30, check=False, env={}
    )
    assert done.returncode == 2
    assert done.stderr.startswith("dataplane: ")
    assert "SMI_MESH_TRUST_BUNDLE" in done.stderr or "POD_N" in done.stderr


async def test_ready_with_certificate_and_config_then_drained(controller: StandIn, sidecar: Sidecar) -> None:
    stream = await controller.next_stream()
    assert b"no config from the controller" in await sidecar.wait_status("/ready", 503)
    assert (await sidecar.get("/live"))[0] == 200
    await stream.receive("hello")
    stream.update(41, sidecar.resources, full=True)
    await sidecar.wait_status("/ready", 200)

    shown = json.loads((await sidecar.get("/config"))[1])
    assert shown["revision"] == 41
    assert shown["resources"] == sidecar.resources

    _, text = await sidecar.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert families["smi_mesh_config_revision"].samples[0].value == 41
    assert families["smi_mesh_controller_connected"].samples[0].value == 1
    assert families["smi_mesh_certificate_expiry_timestamp_seconds"].samples[0].value > 0
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6

    sidecar.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await sidecar.process.wait() == 0
    for line in sidecar.stderr.read_text().splitlines():
        entry = json.loads(line)
        assert {"time", "level", "logger", "message"} <= entry.keys()
    assert TOKEN not in sidecar.stderr.read_text()
    assert "PRIVATE" not in sidecar.stderr.read_text()


async def test_before_a_certificate_it_says_so_and_can_be_ended(
    controller: StandIn, sidecar: Sidecar
) -> None:
    controller.refuse = "not yet"
    assert b"no certificate yet" in await sidecar.wait_status("/ready", 503)
    assert await sidecar.stop() == 0


async def test_the_controller_may_go_once_there_is_a_config(controller: StandIn, sidecar: Sidecar) -> None:
    await sidecar.wait_ready()
    await controller.stop()
    await sidecar.wait_metric("smi_mesh_controller_connected 0")
    assert (await sidecar.get("/ready"))[0] == 200


async def test_splits_are_shown_in_metrics(controller: StandIn, sidecar: Sidecar) -> None:
    app = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    hangs_up = Endpoint("127.0.0.1", app.sockets[0].getsockname()[1], "shop/v2-1", None)
    stream = await sidecar.wait_ready()
    asked = asyncio.gather(sidecar.call("api.shop:8080"))
    (key,) = (await stream.receive("subscribe"))["keys"]
    resources = {
        f"destination/{key}": destination("api", {"v1": 3, "v2": 1, "v3": 0}),
        "cluster/shop/v2:8080": encode_cluster((hangs_up,)),
    }
    stream.update(2, resources)
    ((status, _),) = await asked
    assert status in (502, 503)
    app.close()
    await app.wait_closed()
    _, text = await sidecar.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    wanted = {
        sample.labels["backend"]: sample.value for sample in families["smi_mesh_split_weight_ratio"].samples
    }
    assert wanted == {"shop/v1": 0.75, "shop/v2": 0.25, "shop/v3": 0.0}
    picks = {sample.labels["backend"]: sample.value for sample in families["smi_mesh_split_picks"].samples}
    assert picks["shop/v2"] >= 1
    assert picks["shop/v1"] == picks["shop/v3"] == 0
    skipped = {
        sample.labels["backend"]: sample.value for sample in families["smi_mesh_split_skipped"].samples
    }
    assert skipped["shop/v1"] == picks["shop/v2"]
    assert skipped["shop/v3"] == 0


async def test_an_app_is_kept_until_the_controller_says_that_nobody_calls(sidecar: Sidecar) -> None:
    stream = await sidecar.wait_ready()
    waiting = asyncio.get_running_loop().create_task(sidecar.get("/withdrawn"))
    await stream.receive("leaving")
    assert not waiting.done()
    stream.send(type="withdrawn")
    assert await waiting == (200, b"ok\n")
    assert (await sidecar.get("/ready"))[0] == 200  # what is on its way is served


async def test_what_the_kubelet_leaves_to_the_sidecar(controller: StandIn, tmp_path: Path) -> None:
    app = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    made = Sidecar(controller, tmp_path)
    check = {"kind": "tcp", "port": app.sockets[0].getsockname()[1], "seconds": 1}
    checks = json.dumps({"app/readiness": check})
    made.extra = {"SMI_MESH_APP_CHECKS": checks, "SMI_MESH_WITHDRAW_SECONDS": "0.1"}
    await made.start()
    try:
        await made.wait_ready()
        assert (await made.get("/app-health/app/readiness"))[0] == 200
        assert (await made.get("/app-health/app/liveness"))[0] == 404
        app.close()
        await app.wait_closed()
        assert (await made.get("/app-health/app/readiness"))[0] == 503
        waited = await made.get("/withdrawn")
        assert waited == (503, b"failed: callers may still send to this pod\n")
    finally:
        await made.stop()
