"""What the sidecar does for the kubelet, against real servers of each kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import pytest

from dataplane.appchecks import CheckFailed, perform
from dataplane.settings import Check, app_checks
from tests.dataplane.serve.mesh import Authority, Contexts

HOST = "127.0.0.1"


async def problem(check: Check) -> str:
    """ "" if the app passes, else why not."""
    try:
        await perform(check, HOST)
    except CheckFailed as failure:
        return str(failure)
    return ""


class Web:
    """Answers everything with `answer` and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        self.asked = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked = await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a probe may only connect
        finally:
            writer.close()


@pytest.fixture
async def web() -> AsyncIterator[tuple[Web, int]]:
    made = Web()
    server = await asyncio.start_server(made, HOST, 0)
    yield made, server.sockets[0].getsockname()[1]
    server.close()


async def test_tcp_passes_only_while_somebody_listens() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), HOST, 0)
    check = Check("tcp", server.sockets[0].getsockname()[1], 5)
    assert await problem(check) == ""
    server.close()
    await server.wait_closed()
    assert "Connect call failed" in await problem(check)


@pytest.mark.parametrize(
    ("line", "ok"),
    [(b"200 OK", True), (b"302 Found", True), (b"399 X", True), (b"404 Not Found", False), (b"500 X", False)],
)
async def test_http_passes_from_200_to_399(web: tuple[Web, int], line: bytes, ok: bool) -> None:
    server, port = web
    server.answer = b"HTTP/1.1 " + line + b"\r\n\r\n"
    found = await problem(Check("http", port, 5))
    assert found == "" if ok else "statuscode" in found


async def test_http_sends_what_the_pod_says(web: tuple[Web, int]) -> None:
    server, port = web
    headers = (("Host", "shop.example"), ("X-Probe", "yes"))
    assert await problem(Check("http", port, 5, "healthz?full=1", headers)) == ""
    lines = server.asked.decode().split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    assert [line for line in lines if line.lower().startswith("host")] == ["Host: shop.example"]
    assert "X-Probe: yes" in lines


async def test_what_is_no_http_does_not_pass(web: tuple[Web, int]) -> None:
    server, port = web
    server.answer = b"SSH-2.0-x\r\n"
    assert await problem(Check("http", port, 5)) == "no HTTP answer"


async def test_https_passes_whatever_the_certificate() -> None:
    contexts, server = Contexts(Authority(), "db", "db-1"), Web()
    contexts.server_context.verify_mode = 0  # type: ignore[assignment]  # an app's own TLS asks for none
    listener = await asyncio.start_server(server, HOST, 0, ssl=contexts.server_context)
    port = listener.sockets[0].getsockname()[1]
    assert await problem(Check("https", port, 5)) == ""
    assert await problem(Check("http", port, 5)) != ""
    listener.close()


async def test_a_silent_app_fails_in_time() -> None:
    silent = asyncio.Event()

    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(handler, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    for kind in ("http", "grpc"):
        assert await problem(Check(kind, port, 0.05)) == "no answer within 0.05 s"
    silent.set()
    server.close()


class Health:
    """grpc.health.v1 by hand: service name → HealthCheckResponse."""

    def __init__(self) -> None:
        self.services = {b"": b"\x08\x01", b"\x0a\x04shop": b"\x08\x02"}

    async def check(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if request not in self.services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self.services[request]


async def test_grpc_asks_the_health_service() -> None:
    health = Health()
    server = grpc.aio.server()
    handlers = {"Check": grpc.unary_unary_rpc_method_handler(health.check)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),)
    )
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        assert await problem(Check("grpc", port, 5)) == ""
        assert await problem(Check("grpc", port, 5, service="shop")) == "the service is not SERVING"
        assert await problem(Check("grpc", port, 5, service="x" * 200)) == "gRPC status 5"
        health.services[b"\x0a\x04shop"] = b"\x08\x01"
        assert await problem(Check("grpc", port, 5, service="shop")) == ""
    finally:
        await server.stop(0)
    assert "Connect call failed" in await problem(Check("grpc", port, 5))


async def test_grpc_is_not_http1(web: tuple[Web, int]) -> None:
    assert await problem(Check("grpc", web[1], 5)) != ""


def test_what_the_injector_writes_is_read() -> None:
    text = json.dumps(
        {"app/liveness": {"kind": "https", "port": 8443, "seconds": 2, "path": "/", "headers": [["A", "b"]]}}
    )
    assert app_checks(text) == {"app/liveness": Check("https", 8443, 2.0, "/", (("A", "b"),))}
    assert app_checks("") == {}


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"kind": "udp", "port": 1, "seconds": 1},
        {"kind": "tcp", "port": 0, "seconds": 1},
        {"kind": "tcp", "port": "x", "seconds": 1},
        {"kind": "tcp", "port": 1, "seconds": 0},
        {"kind": "http", "port": 1, "seconds": 1, "path": "/\r\nHost: x"},
        {"kind": "http", "port": 1, "seconds": 1, "headers": [["A", "b\nc"]]},
        {"kind": "http", "port": 1, "seconds": 1, "headers": [1]},
        None,
    ],
)
def test_what_is_no_check_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match="app/liveness"):
        app_checks(json.dumps({"app/liveness": entry}))
