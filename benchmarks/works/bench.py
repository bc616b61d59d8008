"""What every work is made of: contenders, alternating rounds, rows.

Contenders of a work run at the same time on the same core and are loaded in alternating rounds, so
that what else the machine does falls on all of them alike. The figure of merit is work per second
of the proxy's own CPU time (all its processes), which does not depend on how fast the load is.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import ours, peers
from benchmarks.authority import Authority, Files
from benchmarks.controller import Controller
from benchmarks.ours import IN, OUT, Sidecar
from benchmarks.processes import (
    PROXY_CORE,
    Address,
    Running,
    free_ports,
    listening,
    output_of,
    python,
    started,
)
from benchmarks.rows import Goal, Row

MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Bench:
    """What every work needs."""

    folder: Path
    authority: Authority
    controller: Controller
    envoy: str | None
    backend: int
    stream: int
    h2: int
    datagrams: int
    client: Files
    """A certificate of `web`, for load that plays a peer proxy."""
    server: Files
    rounds: int
    seconds: int
    say: Callable[[str], None]


@dataclass(slots=True)
class Contender:
    """One proxy (or pair) of a work; `processes` are those whose time counts."""

    name: str
    address: Address
    host: str
    processes: Sequence[Running]
    done: float = 0.0
    cpu: float = 0.0
    seconds: float = 0.0
    latencies: dict[str, list[float]] = field(default_factory=lambda: {"p50": [], "p99": []})

    def cpu_seconds(self) -> float:
        return sum(process.cpu_seconds() for process in self.processes)

    @property
    def per_cpu_second(self) -> float:
        return self.done / max(self.cpu, 0.01)


# --- contenders ---


@asynccontextmanager
async def our_pair(
    bench: Bench, *, cores: Sequence[int] = (PROXY_CORE,)
) -> AsyncIterator[tuple[Sidecar, Sidecar]]:
    """The sidecar of `web` and that of `api`."""
    ports = ours.ports()
    async with (
        ours.sidecar(bench.controller, bench.folder, "web", OUT, ports, cores=cores) as web,
        ours.sidecar(bench.controller, bench.folder, "api", IN, ports, cores=cores) as api,
    ):
        yield web, api


@asynccontextmanager
async def envoy(
    bench: Bench, name: str, config: Callable[[int], dict[str, Any]]
) -> AsyncIterator[tuple[Running, int]]:
    """An Envoy; its process and port."""
    assert bench.envoy is not None
    (port,) = free_ports(1)
    command = peers.envoy_command(bench.envoy, config(port), bench.folder, name)
    with started(name, command, bench.folder) as running:
        await listening(running, ("127.0.0.1", port))
        yield running, port


@asynccontextmanager
async def envoy_pair(
    bench: Bench, proxy: Callable[..., dict[str, Any]], upstream: int
) -> AsyncIterator[tuple[Running, Running, int]]:
    """Out and in with mTLS between them; the processes and the port of the outer one."""
    async with (
        envoy(bench, "envoy-in", lambda port: proxy(port, upstream, server=bench.server)) as (inner, mesh),
        envoy(bench, "envoy-out", lambda port: proxy(port, mesh, client=bench.client)) as (outer, port),
    ):
        yield outer, inner, port


async def side_by_side(
    bench: Bench, stack: AsyncExitStack, hops: str, *, others: bool = False
) -> list[Contender]:
    """Ours, Envoy if there is one, and with `others` nginx and HAProxy."""
    web, api = await stack.enter_async_context(our_pair(bench))
    found = [
        Contender(
            "smi-mesh",
            web.outbound,
            f"{hops}.http",
            [web.running] if hops == "one" else [web.running, api.running],
        )
    ]
    if bench.envoy is not None and hops == "one":
        running, port = await stack.enter_async_context(
            envoy(bench, "envoy", lambda port: peers.http_proxy(port, bench.backend))
        )
        found.append(Contender("Envoy", ("127.0.0.1", port), "b", [running]))
    elif bench.envoy is not None:
        outer, inner, port = await stack.enter_async_context(
            envoy_pair(bench, peers.http_proxy, bench.backend)
        )
        found.append(Contender("Envoy", ("127.0.0.1", port), "b", [outer, inner]))
    if others:
        for name, make in (("nginx", peers.nginx), ("HAProxy", peers.haproxy)):
            (port,) = free_ports(1)
            command = make(port, bench.backend, bench.folder)
            if command is not None:
                running = stack.enter_context(started(name, command, bench.folder))
                await listening(running, ("127.0.0.1", port))
                found.append(Contender(name, ("127.0.0.1", port), "b", [running]))
    return found


# --- rounds ---


async def rounds(
    bench: Bench,
    contenders: Sequence[Contender],
    work: Callable[[Contender, int], Any],
    *,
    warm: int = 1,
    least: int = 1,
) -> None:
    """Load each in turn, `bench.rounds` times but `least`; the first of each is preceded by a warm-up."""
    for contender in contenders:
        await work(contender, warm)
        contender.done = contender.cpu = contender.seconds = 0.0
        contender.latencies = {"p50": [], "p99": []}
    for _ in range(max(bench.rounds, least)):
        for contender in contenders:
            before = contender.cpu_seconds()
            await work(contender, bench.seconds)
            contender.cpu += contender.cpu_seconds() - before
    for contender in contenders:
        rate = contender.done / contender.seconds if contender.seconds else 0
        latency = " ".join(
            f"{key} {statistics.median(v) * 1e3:.2f} ms" for key, v in contender.latencies.items() if v
        )
        each = contender.cpu / max(contender.done, 1) * 1e6
        bench.say(
            f"  {contender.name}: {contender.per_cpu_second:,.0f} per CPU-second ({each:.2f} µs each), "
            f"{rate:,.0f} per second {latency}"
        )


def rows_of(
    contenders: Sequence[Contender], work: str, metric: str, goal: Goal | None, scale: float = 1.0
) -> list[Row]:
    mine, *rest = contenders
    value = mine.per_cpu_second / scale
    if not any(other.name == "Envoy" for other in rest):
        return [Row(work, metric, value, "Envoy", None, goal, "no Envoy here")]
    found = []
    for other in rest:
        theirs = other.per_cpu_second / scale
        found.append(Row(work, metric, value, other.name, theirs, goal if other.name == "Envoy" else None))
    return found


async def own(bench: Bench, work: str, contender: Contender, *arguments: str) -> dict[str, Any]:
    host, port = contender.address
    command = python(
        "-m", "benchmarks.load", work, host, str(port), "--seconds", str(bench.seconds), *arguments
    )
    result: dict[str, Any] = json.loads(await output_of(command, bench.seconds + 30))
    return result
