"""`python -m tests.dataplane.serve.measure [seconds]`: requests per second and CPU per request.

One hop (plain server behind a split) and two hops (mTLS between two proxies, access by route). Each
proxy is a process of its own on core 0, `wrk` and the server are on core 1. The figures drift with
what else the machine does: they are reported, never asserted.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from dataplane import process
from smi.policy.snapshot import Endpoint
from tests.dataplane.serve.mesh import Mesh, free_port, match, routes, split

FIELDS = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "accept: application/json",
    "accept-encoding: gzip, deflate, br",
    "authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "x-tenant: acme",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "cache-control: no-cache",
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\n" + b"x" * 100
PATH = "/api/v1/items"


class Server(asyncio.Protocol):
    """Answers every request that arrives in one piece."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


def child(core: int, main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Fork a process that runs `main` on one core; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    os.sched_setaffinity(0, {core})
    process.keep_read_buffers()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    os._exit(0)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(url: str, host: str, seconds: int) -> str:
    fields = [part for field in (*FIELDS, f"Host: {host}") for part in ("-H", field)]
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", *fields, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure(name: str, address: tuple[str, int], host: str, pids: dict[str, int], seconds: int) -> None:
    url = f"http://{address[0]}:{address[1]}{PATH}"
    load(url, host, 1)
    before = {who: cpu_seconds(pid) for who, pid in pids.items()}
    text = load(url, host, seconds)
    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]  # wrk always says it
    cost = {who: (cpu_seconds(pid) - before[who]) / requests * 1e6 for who, pid in pids.items()}
    latency = dict(re.findall(r"(50|99)%\s+(\S+)", text))
    bad = re.findall(r"Non-2xx.*|Socket errors.*", text)
    each = ", ".join(f"{who} {value:.1f} µs {resident(pids[who]):.0f} MB" for who, value in cost.items())
    rate = requests / seconds
    print(f"{name}: {rate:.0f}/s, p50 {latency['50']}, p99 {latency['99']}; {each} {bad or ''}")  # noqa: T201 - a command that people run


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    mesh = Mesh()
    port = free_port()

    async def serve() -> None:
        made = await asyncio.get_running_loop().create_server(Server, "0.0.0.0", port, backlog=4096)
        await made.serve_forever()

    web, api = mesh.make("web"), mesh.make("api")
    plain = Endpoint("127.0.0.1", port)

    async def outbound() -> None:
        await web.start()
        web.admit()
        halves = [split("halves", {"a": 1, "b": 1})]
        meshed_halves = [split("halves", {"c": 1, "d": 1})]
        clusters = {"shop/a:8080": [plain], "shop/b:8080": [plain]}
        web.reach("one.shop:80", [plain], service="shop/one", splits=halves, clusters=clusters)
        meshed = [api.endpoint(port)]
        clusters = {"shop/c:8080": meshed, "shop/d:8080": meshed}
        web.reach("two.shop:80", meshed, service="shop/two", splits=meshed_halves, clusters=clusters)
        process.freeze_heap()
        await asyncio.Event().wait()

    async def inbound() -> None:
        await api.start()
        api.admit(routes(match("/api/.*", "GET")))
        process.freeze_heap()
        await asyncio.Event().wait()

    pids = {"server": child(1, serve), "out": child(0, outbound), "in": child(0, inbound)}
    try:
        time.sleep(1.0)
        for _ in range(2):
            measure("one hop", web.outbound, "one.shop", {"out": pids["out"]}, seconds)
            measure(
                "two hops, mTLS", web.outbound, "two.shop", {who: pids[who] for who in ("out", "in")}, seconds
            )
    finally:
        for pid in pids.values():
            os.kill(pid, 9)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
