"""The process itself: memory, time to start, several workers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import statistics
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks import ours
from benchmarks.controller import NAMESPACE
from benchmarks.ours import OUT, Sidecar
from benchmarks.processes import LOAD_CORE, PROXY_CORE, NotStarted, cpu_seconds
from benchmarks.rows import Row, at_least, at_most
from benchmarks.works.bench import MB, Bench, Contender, rounds
from benchmarks.works.http1 import wide
from smi.names import ALPN_HTTP1

_SERVICES: Final = 1000
_ENDPOINTS: Final = 10
_USED: Final = 20
_KNOWN: Final = 100


async def memory(bench: Bench) -> list[Row]:
    """Resident memory: idle, in a big cluster of which little is used, and start to ready."""
    ours.configure_wide(bench.controller, _SERVICES, _ENDPOINTS)
    starts = []
    for _ in range(2 * bench.rounds + 1):
        async with ours.sidecar(bench.controller, bench.folder, "wide", "127.88.0.4", ours.ports()) as wide:
            starts.append(wide.ready_seconds)
    ports = ours.ports()
    async with (
        _peers(bench, ports.mesh),
        ours.sidecar(bench.controller, bench.folder, "wide", "127.88.0.4", ports) as wide,
    ):
        idle = wide.running.resident() / MB
        await _use(wide, _USED)
        used = wide.running.resident() / MB
        await _use(wide, _KNOWN)
        known = wide.running.resident() / MB
    start = statistics.median(starts)
    bench.say(
        f"  ready in {start * 1e3:.0f} ms; "
        f"RSS {idle:.1f} MB, with {_USED} used {used:.1f} MB, with {_KNOWN} used {known:.1f} MB"
    )
    big = f"RSS, {_SERVICES} services, {_SERVICES * _ENDPOINTS} endpoints, {_USED} used"
    return [
        Row("start to ready", "s", start, "bound", 1.0, at_most(1.0)),
        Row("RSS idle", "MB", idle, "bound", 40.0, at_most(1.0)),
        Row(big, "MB", used, "bound", 50.0, at_most(1.0)),
        Row(f"the same, {_KNOWN} used", "MB", known, "bound", 50.0, at_most(1.0)),
    ]


@asynccontextmanager
async def _peers(bench: Bench, port: int) -> AsyncIterator[None]:
    """Stand-ins for the proxies of the endpoints that `_use` may meet: mTLS at their mesh port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(bench.server.root)
    context.load_cert_chain(bench.server.certificate, bench.server.key)
    context.set_alpn_protocols([ALPN_HTTP1])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        writer.close()

    ips = [ip for number in range(_KNOWN) for ip in ours.wide_ips(number, _ENDPOINTS)]
    async with await asyncio.start_server(answer, ips, port, ssl=context):
        yield


async def _use(wide: Sidecar, count: int) -> None:
    """Ask services, one after the other. Raises NotStarted if one does not answer."""
    for number in range(count):
        host = f"service-{number}.{NAMESPACE}:{ours.WIDE_PORT}"
        reader, writer = await asyncio.open_connection(*wide.outbound)
        writer.write(b"GET / HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % host.encode())
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise NotStarted(f"{host} answers {answer[:200]!r}")


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
