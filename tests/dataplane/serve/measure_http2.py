"""`python -m tests.dataplane.serve.measure_http2 [requests]`: HTTP/2 requests per second and CPU per request.

h2load with 4 connections of 20 streams; one hop and two hops with mTLS, and for comparison the same
two hops with one HTTP/1.1 request per connection at a time (80 connections). Proxies are processes
of their own on core 0, load and server on core 1. Figures are reported, never asserted.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from typing import Any

from smi.policy.snapshot import Endpoint
from tests.dataplane.serve.http2 import Peer
from tests.dataplane.serve.measure import FIELDS, Server, child, cpu_seconds
from tests.dataplane.serve.mesh import Mesh, free_port, match, routes, split
from tests.dataplane.wire.http2.kit import OK

BODY = b"x" * 100


def _answer(peer: Peer) -> None:
    for _, stream in peer.asked():
        peer.connection.send_head(stream, OK, end=False)
        peer.connection.send_data(stream, BODY, end=True)


class Quick(Peer):
    """Answers at once, and remembers nothing."""

    def __init__(self) -> None:
        Peer.__init__(self, server=True, react=_answer)

    def data_received(self, data: bytes) -> None:
        Peer.data_received(self, data)
        self.events.seen.clear()


def _load(address: tuple[str, int], host: str, count: int, *options: str) -> float:
    """Requests per second."""
    fields = [part for field in (*FIELDS, f":authority: {host}") for part in ("-H", field)]
    url = f"http://{address[0]}:{address[1]}/api/v1/items"
    command = ["taskset", "-c", "1", "h2load", *options, "-t1", f"-n{count}", *fields, url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if f"{count} 2xx" not in out:
        raise RuntimeError(out[-900:])
    found = re.search(r"([0-9.]+) req/s", out)
    return float(found[1]) if found else 0.0


def _measure(
    name: str, address: tuple[str, int], host: str, pids: dict[str, int], count: int, *options: str
) -> None:
    _load(address, host, 1000, *options)
    before = {who: cpu_seconds(pid) for who, pid in pids.items()}
    rate = _load(address, host, count, *options)
    spent = {who: (cpu_seconds(pid) - before[who]) / count * 1e6 for who, pid in pids.items()}
    cost = ", ".join(f"{who} {used:.1f}" for who, used in spent.items())
    sys.stdout.write(f"{name}: {rate:.0f} requests/s, CPU us/request: {cost}\n")
    sys.stdout.flush()


def main(count: int) -> None:
    net = Mesh()
    web, api = net.make("web"), net.make("api")
    port2, port1 = free_port(), free_port()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(Quick, "0.0.0.0", port2)
        await loop.create_server(Server, "0.0.0.0", port1)
        await asyncio.Event().wait()

    async def outbound() -> None:
        web.admit()
        for name, port in (("two", port2), ("one", port1)):
            plain = {f"shop/v{name}:8080": [Endpoint("127.0.0.1", port)]}
            web.reach(f"plain-{name}:80", [], splits=[split(f"s{name}", {f"v{name}": 1})], clusters=plain)
            web.reach(f"mesh-{name}:80", [api.endpoint(port)], service=f"shop/{name}")
        await web.start()
        await asyncio.Event().wait()

    async def inbound() -> None:
        api.admit(routes(match("/api/.*")))
        await api.start()
        await asyncio.Event().wait()

    pids: dict[str, Any] = {"server": child(1, serve), "out": child(0, outbound), "in": child(0, inbound)}
    try:
        time.sleep(1.0)
        many = ("-c4", "-m20")
        one = ("--h1", "-c80", "-m1")
        out, both = {"out": pids["out"]}, {"out": pids["out"], "in": pids["in"]}
        _measure("HTTP/2, one hop", web.outbound, "plain-two:80", out, count, *many)
        _measure("HTTP/2, two hops", web.outbound, "mesh-two:80", both, count, *many)
        _measure("HTTP/1.1, one hop", web.outbound, "plain-one:80", out, count, *one)
        _measure("HTTP/1.1, two hops", web.outbound, "mesh-one:80", both, count, *one)
    finally:
        for pid in pids.values():
            subprocess.run(["kill", str(pid)], check=False)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000)
