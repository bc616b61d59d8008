"""HTTP/1.1: one hop, two hops with mTLS, large bodies, added latency."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks import load
from benchmarks.processes import NotStarted, output_of
from benchmarks.rows import Row, at_least, at_most
from benchmarks.works.bench import MB, Bench, Contender, own, rounds, rows_of, side_by_side

_VARIED: Final = Path(__file__).with_name("varied.lua")


async def wrk(contender: Contender, seconds: int, *arguments: str, path: str = load.PATH, size: int = 0,
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


async def varied(contender: Contender, seconds: int) -> None:
    """Requests of which each has its own path and trace id."""
    await wrk(contender, seconds, "-s", str(_VARIED))


async def wide(contender: Contender, seconds: int) -> None:
    """The same on connections enough to spread over workers."""
    await wrk(contender, seconds, "-s", str(_VARIED), connections=256)


async def one_hop(bench: Bench) -> list[Row]:
    """HTTP/1.1, one hop, split chosen by match, nine request headers."""
    async with AsyncExitStack() as stack:
        contenders = await side_by_side(bench, stack, "one", others=True)
        await rounds(bench, contenders, varied)
    return rows_of(contenders, "HTTP/1.1 one hop", "requests per CPU-second", at_least(2.0))


async def two_hops(bench: Bench) -> list[Row]:
    """The same through two proxies with mTLS between them."""
    async with AsyncExitStack() as stack:
        contenders = await side_by_side(bench, stack, "two")
        await rounds(bench, contenders, varied)
    return rows_of(contenders, "HTTP/1.1 two hops, mTLS", "requests per CPU-second", at_least(1.7))


async def bodies(bench: Bench) -> list[Row]:
    """Large bodies through one hop, either way, and how much memory they take."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        contenders = await side_by_side(bench, stack, "one")
        mine = contenders[0].processes[0]
        before = mine.resident()
        mine.reset_peak()
        for size in (1, 10):
            for up in (False, True):
                work = f"{size} MB bodies, {'request' if up else 'response'}"
                bench.say(f" {work}")
                await rounds(bench, contenders, _body(bench, size * MB, up=up))
                rows += rows_of(contenders, work, "MB per CPU-second", at_least(0.8), MB)
        grown = (mine.peak() - before) / MB
    # 8 connections, each with two transports whose high-water mark is 64 KiB, and glibc keeps freed blocks.
    rows.append(Row("bodies: memory above idle, 8 connections", "MB", grown, "bound", 25.0, at_most(1.0)))
    return rows


def _body(bench: Bench, size: int, *, up: bool) -> Callable[[Contender, int], Any]:
    if not up:
        return lambda contender, seconds: wrk(
            contender, seconds, path=f"/bytes/{size}", size=size, connections=8
        )
    script = bench.folder / f"post-{size}.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {size})\n')
    return lambda contender, seconds: wrk(
        contender, seconds, "-s", str(script), path="/api/v1/upload", size=size, connections=8
    )


async def latency(bench: Bench) -> list[Row]:
    """What two hops with mTLS add to the time of a request at 2 000 requests per second."""
    async with AsyncExitStack() as stack:
        contenders = await side_by_side(bench, stack, "two")
        direct = Contender("no proxy", ("127.0.0.1", bench.backend), "b", [])
        for _ in range(max(bench.rounds, 2)):
            for contender in (*contenders, direct):
                result = await own(
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
