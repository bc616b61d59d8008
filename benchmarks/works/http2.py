"""HTTP/2 and gRPC-shaped requests, by h2load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from benchmarks import load, peers
from benchmarks.processes import LOAD_CORE, NotStarted, listening, output_of, started
from benchmarks.rows import Row, at_least
from benchmarks.works.bench import Bench, Contender, envoy, our_pair, rounds

_PATHS: Final = 10_007


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
            await rounds(bench, [mine, *contenders] if able else contenders, work)
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
        *_where(bench, f"http://{address}:{port}{path}", varied=not fields),
    ]
    text = await output_of(command, seconds + 20)
    found = re.search(r"(\d+) succeeded, (\d+) failed", text)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if found is None or codes is None or not int(codes[1]) or int(codes[3]) or int(codes[4]):
        raise NotStarted(f"{contender.name} does not serve HTTP/2 here")
    contender.done += int(codes[1])
    contender.seconds += seconds


def _where(bench: Bench, url: str, *, varied: bool) -> list[str]:
    """What to ask for; `varied`: as many paths as no cache holds, in turn."""
    if not varied:
        return [url]
    file = bench.folder / "h2-paths"
    file.write_text("".join(f"{url}/{number}?page={number % 10}\n" for number in range(_PATHS)))
    return ["-i", str(file)]
