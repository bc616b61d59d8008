"""`python -m tests.dataplane.measure`: start-to-ready time and resident memory of a real sidecar."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.dataplane.config import cluster, destination
from tests.dataplane.control.authority import Authority
from tests.dataplane.control.stand_in import StandIn, Stream
from tests.dataplane.sidecar import Sidecar

STARTS = 7
SERVICES = 100
ENDPOINTS = 5


async def _start_seconds(controller: StandIn, folder: Path) -> float:
    sidecar = Sidecar(controller, folder)
    began = time.monotonic()
    await sidecar.start()
    await sidecar.wait_ready()
    seconds = time.monotonic() - began
    await sidecar.stop()
    return seconds


async def _learn(sidecar: Sidecar, stream: Stream) -> None:
    """Have the sidecar use SERVICES split services: a root and two backends of ENDPOINTS endpoints each."""
    for number in range(SERVICES):
        name = f"service-{number}"
        asked = asyncio.gather(sidecar.call(f"{name}.shop:8080"))
        (key,) = (await stream.receive("subscribe"))["keys"]
        ips = [f"127.77.{number}.{place}" for place in range(1, ENDPOINTS + 1)]
        resources = {f"destination/{key}": destination(name, {f"{name}-v1": 90, f"{name}-v2": 10})}
        for version in ("", "-v1", "-v2"):
            resources[f"cluster/shop/{name}{version}:8080"] = cluster(*ips)
        stream.update(number + 2, resources)
        await asked


async def measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        controller = StandIn(Path(folder), Authority())
        await controller.start_identity()
        await controller.start_discovery()
        seconds = [await _start_seconds(controller, Path(folder)) for _ in range(STARTS)]
        sidecar = Sidecar(controller, Path(folder))
        await sidecar.start()
        stream = await sidecar.wait_ready()
        idle = sidecar.resident_bytes()
        await _learn(sidecar, stream)
        known = sidecar.resident_bytes()
        await sidecar.stop()
        await controller.stop()
    sys.stdout.write(
        f"start to ready: median {statistics.median(seconds) * 1e3:.0f} ms, "
        f"worst {max(seconds) * 1e3:.0f} ms of {STARTS} starts\n"
        f"resident memory: {idle / 1e6:.1f} MB when ready, {known / 1e6:.1f} MB with {SERVICES} services "
        f"({SERVICES * 3 * ENDPOINTS} endpoints) known and used\n"
    )


if __name__ == "__main__":
    asyncio.run(measure())
