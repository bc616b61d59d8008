"""`python -m controller` as a process: start-up time, signals, and what it says of a bad environment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from controller.manifests import InstallSettings, render
from localmesh.apiserver.server import ApiServer, ApiSettings, start
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE
from tests.controller.running import resource, until

pytestmark = pytest.mark.e2e


async def spawn(env: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "controller", env={**os.environ, **env}, stderr=asyncio.subprocess.PIPE
    )


async def cluster(state_dir: Path) -> tuple[ApiServer, Mapping[str, str]]:
    """An API server with the manifests, and the environment of a controller for it."""
    server = await start(ApiSettings(state_dir=state_dir))
    for manifest in render(InstallSettings()):
        await server.api.create(resource(manifest), manifest["metadata"].get("namespace"), manifest)
    token = server.issue_token(SYSTEM_NAMESPACE, CONTROLLER_NAME, None, 3600)
    (state_dir / "controller.kubeconfig").write_bytes(server.kubeconfig_for(token))
    ports = ("DISCOVERY", "IDENTITY", "WEBHOOK", "ADMIN")
    return server, {
        "KUBECONFIG": str(state_dir / "controller.kubeconfig"),
        "SMI_MESH_BIND": "127.0.0.1",
        **{f"SMI_MESH_{name}_PORT": "0" for name in ports},
    }


async def admin_port(process: asyncio.subprocess.Process) -> int:
    """From the line in which it says on which ports it is up."""
    assert process.stderr is not None
    async with asyncio.timeout(15):
        while line := (await process.stderr.readline()).decode():
            if " is up on " in line:
                return int(line.partition("'admin': ")[2].partition(",")[0].rstrip("}\n"))
    raise AssertionError("the controller ended before it was up")


async def test_it_is_ready_soon_and_ends_on_sigterm(tmp_path: Path) -> None:
    server, env = await cluster(tmp_path)
    loop = asyncio.get_running_loop()
    began = loop.time()
    process = await spawn(env)
    try:
        port = await admin_port(process)

        async def ready() -> bool:
            async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                return response.status == 200

        async with aiohttp.ClientSession() as session:
            await until(ready)
        assert loop.time() - began < 8.0, "1.5 s on a quiet machine, 4 s is the promise"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await server.stop()


async def test_it_waits_for_an_api_server_that_is_not_there(tmp_path: Path) -> None:
    server, env = await cluster(tmp_path)
    await server.stop()
    process = await spawn(env)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(15):
            said = ""
            while "the CA is not available, trying again" not in said:
                said = (await process.stderr.readline()).decode()
        server = await start(ApiSettings(state_dir=tmp_path, port=server.port))
        await admin_port(process)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await server.stop()


async def test_a_bad_setting_is_one_line_and_exit_code_1() -> None:
    process = await spawn({"SMI_MESH_INTERCEPTION": "magic"})
    async with asyncio.timeout(15):
        _, said = await process.communicate()
    assert process.returncode == 1
    expected = "smi-mesh controller: SMI_MESH_INTERCEPTION: expected one of iptables, explicit, got 'magic'\n"
    assert said.decode() == expected
