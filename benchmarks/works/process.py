"""The process itself: memory, time to start, several workers."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

from benchmarks import ours
from benchmarks.controller import NAMESPACE
from benchmarks.ours import OUT, Sidecar
from benchmarks.processes import LOAD_CORE, PROXY_CORE, cpu_seconds
from benchmarks.rows import Row, at_least, at_most
from benchmarks.works.bench import MB, Bench, Contender, rounds
from benchmarks.works.http1 import wide

_SERVICES: Final = 1000
_ENDPOINTS: Final = 10
_USED: Final = 20


async def memory(bench: Bench) -> list[Row]:
    """Resident memory: idle, in a big cluster of which little is used, and start to ready."""
    ours.configure_wide(bench.controller, _SERVICES, _ENDPOINTS)
    starts = []
    for _ in range(2 * bench.rounds + 1):
        async with ours.sidecar(bench.controller, bench.folder, "wide", "127.88.0.4", ours.ports()) as wide:
            starts.append(wide.ready_seconds)
    async with ours.sidecar(bench.controller, bench.folder, "wide", "127.88.0.4", ours.ports()) as wide:
        idle = wide.running.resident() / MB
        await _use(wide, _USED)
        used = wide.running.resident() / MB
        await _use(wide, 100)
        known = wide.running.resident() / MB
    start = statistics.median(starts)
    bench.say(
        f"  ready in {start * 1e3:.0f} ms; RSS {idle:.1f} MB, {used:.1f} MB, with 100 used {known:.1f} MB"
    )
    big = f"RSS, {_SERVICES} services, {_SERVICES * _ENDPOINTS} endpoints, {_USED} used"
    return [
        Row("start to ready", "s", start, "bound", 1.0, at_most(1.0)),
        Row("RSS idle", "MB", idle, "bound", 40.0, at_most(1.0)),
        Row(big, "MB", used, "bound", 50.0, at_most(1.0)),
        Row("RSS with 100 services known and used", "MB", known, "bound", 45.0, at_most(1.0)),
    ]


async def _use(wide: Sidecar, count: int) -> None:
    """Ask for services; nobody answers there, which is as good: the sidecar has to know them."""
    for number in range(count):
        host = f"service-{number}.{NAMESPACE}:{ours.WIDE_PORT}"
        reader, writer = await asyncio.open_connection(*wide.outbound)
        writer.write(b"GET / HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % host.encode())
        await reader.read()
        writer.close()


async def workers(bench: Bench) -> list[Row]:
    """Two workers against one, both with both cores: what the cores carry, if the load is elsewhere.

    This machine's two cores also make the load, so the requests per second cannot double here. What
    is compared is what the workers' CPU time was worth, times the cores they evenly used.
    """
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(_with_workers(bench, count)) for count in (1, 2)]
        serving = [web.running.pids[-count:] for web, count in zip(found, (1, 2), strict=True)]
        contenders = [
            Contender(name, web.outbound, "one.http", [web.running])
            for name, web in zip(("two workers", "one worker"), reversed(found), strict=True)
        ]
        before = [[cpu_seconds(pid) for pid in pids] for pids in serving]
        await rounds(bench, contenders, wide)
        after = [[cpu_seconds(pid) for pid in pids] for pids in serving]
    worth = []
    for contender, was, now in zip(reversed(contenders), before, after, strict=True):
        shares = [end - start for start, end in zip(was, now, strict=True)]
        even = sum(shares) / max(*shares, 0.01)
        bench.say(f"  {contender.name}: {even:.2f} cores evenly used")
        worth.append(contender.per_cpu_second * even)
    name, metric = "--workers 2 on two cores", "requests per second of full cores"
    return [Row(name, metric, worth[1], "one worker", worth[0], at_least(1.8))]


def _with_workers(bench: Bench, count: int) -> AbstractAsyncContextManager[Sidecar]:
    folder = bench.folder / f"workers-{count}"
    folder.mkdir()
    ip, cores = (OUT, "127.88.0.5")[count - 1], (PROXY_CORE, LOAD_CORE)
    return ours.sidecar(bench.controller, folder, "web", ip, ours.ports(), cores=cores, workers=count)
