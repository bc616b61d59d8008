"""A real sidecar process (explicit mode, ephemeral ports) beside a controller stand-in."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.dataplane.config import inbound
from tests.dataplane.control.stand_in import TOKEN, StandIn, Stream

DEADLINE = 20.0
LISTENERS = ("OUTBOUND", "INBOUND", "MESH", "ADMIN")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on right now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


class Sidecar:
    """`python -m dataplane` as a child process. `resources` is what the stand-in answers hello with."""

    def __init__(self, controller: StandIn, folder: Path) -> None:
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.resources: dict[str, Any] = {"inbound": inbound()}
        self.stderr = folder / "sidecar.log"
        self.extra: dict[str, str] = {}
        """More variables."""
        self._controller = controller
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    def environ(self) -> dict[str, str]:
        token = self._folder / "token"
        token.write_text(TOKEN)
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("SMI_MESH_")},
            "POD_NAME": "web-1",
            "POD_NAMESPACE": "shop",
            "POD_IP": "127.0.0.1",
            "SMI_MESH_CONTROLLER": "127.0.0.1",
            "SMI_MESH_TRUST_BUNDLE": self._controller.authority.bundle,
            "SMI_MESH_TOKEN_FILE": str(token),
            "SMI_MESH_INTERCEPTION": "explicit",
            "SMI_MESH_LOG_LEVEL": "debug",
            "SMI_MESH_DISCOVERY_PORT": str(self._controller.discovery_port),
            "SMI_MESH_IDENTITY_PORT": str(self._controller.identity_port),
            **{f"SMI_MESH_{name}_PORT": str(port) for name, port in self.ports.items()},
            **self.extra,
        }

    async def start(self, arguments: Sequence[str] = ("-m", "dataplane")) -> None:
        with self.stderr.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, env=self.environ(), stderr=log
            )

    async def greet(self) -> Stream:
        """Play the controller's part up to the first config."""
        stream = await self._controller.next_stream()
        await stream.receive("hello")
        stream.update(1, self.resources, full=True)
        return stream

    async def get(self, path: str) -> tuple[int, bytes]:
        """(status, body) of a GET on the admin port; status 0 while nobody listens."""
        return await self._exchange(self.ports["ADMIN"], path, "x")

    async def call(self, authority: str) -> tuple[int, bytes]:
        """(status, body) of a GET that the pod's app makes through its proxy."""
        return await self._exchange(self.ports["OUTBOUND"], f"http://{authority}/", authority)

    async def _exchange(self, port: int, target: str, host: str) -> tuple[int, bytes]:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return 0, b""
        writer.write(f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split(b" ")[1]), body

    async def wait_status(self, path: str, status: int) -> bytes:
        """The body once `path` answers with `status`."""
        began = time.monotonic()
        while True:
            found, body = await self.get(path)
            if found == status:
                return body
            assert self.process.returncode is None, self.stderr.read_text()
            assert time.monotonic() - began < DEADLINE, f"{path} answers {found} {body!r}"
            await asyncio.sleep(0.005)

    async def wait_metric(self, line: str) -> None:
        """Return once /metrics has this very line."""
        began = time.monotonic()
        while line not in (await self.get("/metrics"))[1].decode().splitlines():
            assert time.monotonic() - began < DEADLINE, f"no {line}"
            await asyncio.sleep(0.005)

    async def wait_ready(self) -> Stream:
        stream = await self.greet()
        await self.wait_status("/ready", 200)
        return stream

    def resident_bytes(self) -> int:
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()
