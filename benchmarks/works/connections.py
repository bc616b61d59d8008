"""What is not about requests: opaque bytes, new mTLS connections, idle connections."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from benchmarks import peers
from benchmarks.processes import LOAD_CORE, NotStarted, python
from benchmarks.rows import Row, at_least, at_most
from benchmarks.works.bench import (
    MB,
    Bench,
    Contender,
    envoy,
    envoy_pair,
    our_pair,
    own,
    rounds,
    rows_of,
    side_by_side,
)
from benchmarks.works.http1 import wrk
from smi.names import ALPN_HTTP1, MESH_SNI_SUFFIX

_OPEN_SECONDS: Final = 120.0


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
                result = await own(bench, "stream", contender, *arguments)
                contender.done += result["bytes"]
                contender.seconds += bench.seconds

            name = f"opaque TCP, two hops, mTLS, {'to' if up else 'from'} the server"
            bench.say(f" {name}")
            await rounds(bench, contenders, work)
            rows += rows_of(contenders, name, "MB per CPU-second", at_least(0.8), MB)
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
                result = await own(bench, "handshakes", contender, *arguments)
                contender.done += result["made"]
                contender.seconds += bench.seconds
                resumed[contender.name] += result["resumed"]

            name = f"new mTLS connections, {'resumed' if resume else 'full handshake'}"
            bench.say(f" {name}")
            await rounds(bench, contenders, work)
            made = rows_of(contenders, name, "per CPU-second", at_least(0.8))
            if resume:
                bench.say("  resumed: " + ", ".join(f"{name} {count}" for name, count in resumed.items()))
                for proxy, count in resumed.items():
                    if not count:
                        raise NotStarted(f"{proxy} resumed no session")
            rows += made
    return rows


async def idle_connections(bench: Bench) -> list[Row]:
    """Resident memory per idle client connection, each after one request."""
    count = 2000 if bench.rounds == 1 else 10_000
    rows = []
    async with AsyncExitStack() as stack:
        contenders = await side_by_side(bench, stack, "one")
        each = []
        for contender in contenders:
            await wrk(contender, 1)
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
        async with asyncio.timeout(_OPEN_SECONDS):
            line = await process.stdout.readline()
        if not line:
            raise NotStarted(f"{contender.name} did not take {count} connections")
        return (running.resident() - before) / count
    finally:
        process.stdin.close()
        await process.wait()
