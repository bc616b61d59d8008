"""Load that wrk cannot make: `python -m benchmarks.load WORK HOST PORT …` prints one JSON object.

`stream`: opaque bytes. `rate`: requests at a fixed rate, timed from when each was due, so that a
stalled proxy cannot hide by delaying the load. `handshakes`: new mTLS connections. `idle`: opens
connections, one request each, and keeps them until its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import select
import socket
import ssl
import sys
import time
from typing import Any, Final

import uvloop

_BUFFER: Final = 1 << 20
_PATIENCE: Final = 0.5
"""Seconds after which a datagram counts as lost and the next one is sent."""
_SOURCES: Final = 8
"""Addresses that many connections come from: each has its own ephemeral ports."""
FIELDS: Final = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "accept: application/json",
    "accept-encoding: gzip, deflate, br",
    "accept-language: en-GB,en;q=0.9",
    "authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "x-tenant: acme",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "cache-control: no-cache",
)
"""With Host nine request headers."""
PATH: Final = "/api/v1/items"


def request(host: str) -> bytes:
    """A GET with the nine headers."""
    lines = (f"GET {PATH} HTTP/1.1", f"host: {host}", *FIELDS)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _open(options: argparse.Namespace, source: str = "") -> socket.socket:
    """`source`: the address to come from; "": the kernel's choice."""
    here = (source, 0) if source else None
    sock = socket.create_connection((options.host, options.port), 10, source_address=here)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _connect(options: argparse.Namespace) -> socket.socket:
    sock = _open(options)
    if options.connect:
        sock.sendall(f"CONNECT {options.connect} HTTP/1.1\r\nhost: {options.connect}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            got = sock.recv(1)
            if not got:
                raise ConnectionError("the proxy closed the connection")
            answer += got
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise ConnectionError(answer.decode(errors="replace"))
    return sock


def stream(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes moved through some connections in some seconds; `--up`: to the server."""
    socks = [_connect(options) for _ in range(options.connections)]
    for sock in socks:
        sock.sendall(b"U" if options.up else b"D")
        sock.setblocking(False)
    buffer = bytearray(_BUFFER)
    end = time.monotonic() + options.seconds
    moved = 0
    poll = select.epoll()
    by_descriptor = {sock.fileno(): sock for sock in socks}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLOUT if options.up else select.EPOLLIN)
    while time.monotonic() < end:
        for descriptor, _ in poll.poll(0.1):
            sock = by_descriptor[descriptor]
            try:
                count = sock.send(buffer) if options.up else sock.recv_into(buffer)
            except BlockingIOError:
                continue
            if not count:
                raise ConnectionError("the connection ended")
            moved += count
    return {"bytes": moved}


class _Timed(asyncio.Protocol):
    """Sends a request when told, one at a time; what is due meanwhile waits, and its clock runs."""

    def __init__(self, block: bytes, taken: list[float]) -> None:
        self._block = block
        self._taken = taken
        self._due: list[float] = []
        self._busy = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, due: float) -> None:
        self._due.append(due)
        if not self._busy:
            self._busy = True
            self._transport.write(self._block)

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(data[:100])
        self._taken.append(time.perf_counter() - self._due.pop(0))
        if self._due:
            self._transport.write(self._block)
        else:
            self._busy = False


async def rate(options: argparse.Namespace) -> dict[str, Any]:
    """Latencies in seconds (p50, p99) at `--rate` requests per second."""
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    block = request(options.authority)
    clients = [
        (await loop.create_connection(lambda: _Timed(block, taken), options.host, options.port))[1]
        for _ in range(options.connections)
    ]
    total = int(options.rate * options.seconds)
    began = time.perf_counter()
    sent = 0
    while sent < total:
        now = time.perf_counter()
        while sent < total and began + sent / options.rate <= now:
            clients[sent % len(clients)].ask(began + sent / options.rate)
            sent += 1
        await asyncio.sleep(max(began + sent / options.rate - time.perf_counter(), 0) if sent < total else 0)
    end = time.perf_counter() + 5
    while len(taken) < total and time.perf_counter() < end:  # noqa: ASYNC110 - an event would cost each answer
        await asyncio.sleep(0.01)
    taken = sorted(taken[len(taken) // 10 :])  # the first tenth warms up
    return {"p50": taken[len(taken) // 2], "p99": taken[int(len(taken) * 0.99)], "answered": len(taken)}


def handshakes(options: argparse.Namespace) -> dict[str, Any]:
    """New mTLS connections, each with one request; `--resume`: with the session of the first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(options.root)
    context.load_cert_chain(options.certificate, options.key)
    if options.alpn:
        context.set_alpn_protocols([options.alpn])
    block = request(options.authority)
    session: ssl.SSLSession | None = None
    made = resumed = 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        with context.wrap_socket(
            _open(options),
            server_hostname=options.sni,
            session=session,
        ) as sock:
            resumed += bool(sock.session_reused)
            sock.sendall(block)
            answer = sock.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(answer[:100])
            if options.resume and sock.session is not None and sock.session.has_ticket:
                session = sock.session
            _goodbye(sock)
        made += 1
    return {"made": made, "resumed": resumed}


def datagrams(options: argparse.Namespace) -> dict[str, Any]:
    """Datagrams of 100 bytes and their answers on `--connections` flows, each with one under way."""
    poll = select.epoll()
    flows: dict[int, tuple[socket.socket, float]] = {}
    payload = b"x" * 100
    answered = 0
    now = time.monotonic()
    end = now + options.seconds
    for _ in range(options.connections):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((options.host, options.port))
        sock.setblocking(False)
        poll.register(sock.fileno(), select.EPOLLIN)
        flows[sock.fileno()] = sock, 0.0
    while now < end:
        for descriptor, (sock, sent) in flows.items():
            if now - sent > _PATIENCE:  # the first one, or one that was lost
                flows[descriptor] = sock, now
                with contextlib.suppress(ConnectionRefusedError):
                    sock.send(payload)
        for descriptor, _ in poll.poll(0.05):
            sock, _ = flows[descriptor]
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                sock.recv(2048)
                answered += 1
                flows[descriptor] = sock, now
                sock.send(payload)
        now = time.monotonic()
    return {"answered": answered}


def _goodbye(sock: ssl.SSLSocket) -> None:
    """Send close_notify and do not wait for the peer's: a connection that is cut may end its session."""
    sock.setblocking(False)
    with contextlib.suppress(ssl.SSLWantReadError):
        sock.unwrap()


def idle(options: argparse.Namespace) -> dict[str, Any]:
    """Open `--connections`, one request each, say so, and hold them until standard input ends."""
    block = request(options.authority)
    socks = []
    for number in range(options.connections):
        sock = _open(options, f"127.89.0.{1 + number % _SOURCES}")
        sock.sendall(block)
        if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
            raise ConnectionError("no answer")
        socks.append(sock)
    sys.stdout.write(json.dumps({"open": len(socks)}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=("stream", "rate", "handshakes", "idle", "datagrams"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--connect", default="")
    parser.add_argument("--authority", default="one.shop")
    parser.add_argument("--rate", type=float, default=2000.0)
    for name in ("root", "certificate", "key", "alpn", "sni"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--up", action="store_true")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.work == "rate":
        result = uvloop.run(rate(options))
    else:
        works = {"stream": stream, "handshakes": handshakes, "idle": idle, "datagrams": datagrams}
        result = works[options.work](options)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
