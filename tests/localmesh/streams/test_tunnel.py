"""Upgraded connections passed on: whatever the server answers is the answer, and the ends end together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from multidict import CIMultiDict

from localmesh.streams.answer import MAX_HEAD
from localmesh.streams.duplex import asked_upgrade
from localmesh.streams.tunnel import Destination, UnreachableError, end_to_end, tunnel
from localmesh.streams.watching import Limits
from tests.localmesh.cluster_kit import wait_until
from tests.localmesh.streams.kit import serving

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tea/1"}


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"2\r\nno\r\n0\r\n\r\n"


class Proxy:
    def __init__(self, limits: Limits | None = None) -> None:
        self.to = Destination("127.0.0.1", 0)
        self.limits = limits or Limits()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            headers = [*end_to_end(request.headers.items()), ("X-Added", "1")]
            return await tunnel(request, self.to, request.rel_url.raw_path_qs, headers, self.limits)
        except UnreachableError as error:
            return web.Response(status=503, text=str(error))


@asynccontextmanager
async def between(serve: Serve, limits: Limits | None = None) -> AsyncIterator[int]:
    """The port of a proxy before a server that is `serve`."""
    server, proxy = await asyncio.start_server(serve, "127.0.0.1", 0), Proxy(limits)
    proxy.to = Destination("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        async with serving(proxy.handle) as port:
            yield port
    finally:
        server.close()


async def ask(port: int, text: str = "GET /x?y=%2F HTTP/1.1\r\nHost: h\r\n") -> tuple[bytes, bytes]:
    """Head and rest of what comes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
    writer.write((text + fields + "\r\n").encode())
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        rest = await reader.read()
    writer.close()
    return head, rest


def once(answer: bytes, asked: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head)
        writer.write(answer)
        writer.close()

    return serve


async def test_what_comes_right_behind_the_head_is_not_lost() -> None:
    asked: list[bytes] = []
    switch = (
        b"HTTP/1.1 101 Brewing\r\nConnection: Upgrade\r\nUpgrade: tea/1\r\nX-Leaf: green\r\n\r\nhot water"
    )
    async with between(once(switch, asked)) as port:
        head, rest = await ask(port)
    assert head.startswith(b"HTTP/1.1 101 Brewing\r\n")
    assert b"X-Leaf: green" in head
    assert b"Upgrade: tea/1" in head
    assert rest == b"hot water"
    assert asked[0].startswith(b"GET /x?y=%2F HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"X-Added: 1\r\n" in asked[0]
    assert asked[0].lower().count(b"connection: upgrade") == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 3\r\nX-Why: because\r\n\r\nno!more", b"no!"),
        (b"HTTP/1.1 403 No\r\nX-Why: because\r\n\r\nuntil the end", b"d\r\nuntil the end\r\n0\r\n\r\n"),
        (
            CONTINUE + b"HTTP/1.1 403 No\r\nX-Why: because\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
            CHUNKED,
        ),
    ],
)
async def test_a_refusal_is_the_answer(answer: bytes, body: bytes) -> None:
    async with between(once(answer)) as port:
        head, rest = await ask(port, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n")
    assert head.startswith(b"HTTP/1.1 403 No\r\n")
    assert b"X-Why: because" in head
    assert rest == body


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-teapot\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + bytes(b"a" * 2 * MAX_HEAD)]
)
async def test_what_is_no_answer_is_said_to_be_none(answer: bytes) -> None:
    async with between(once(answer)) as port:
        head, rest = await ask(port, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert rest


async def test_nobody_there() -> None:
    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody connects")

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    proxy = Proxy()
    proxy.to = Destination("127.0.0.1", server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    async with serving(proxy.handle) as port:
        head, _ = await ask(port, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")


async def test_websockets_pass_and_both_ends_notice_the_other() -> None:
    ended: list[str] = []

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("tea",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data * 2)
        ended.append("server")
        return socket

    proxy = Proxy()
    async with serving(echo) as behind, serving(proxy.handle) as port, aiohttp.ClientSession() as session:
        proxy.to = Destination("127.0.0.1", behind)
        async with session.ws_connect(f"http://127.0.0.1:{port}/", protocols=("tea",)) as socket:
            assert socket.protocol == "tea"
            for size in (1, 200, 70_000):
                await socket.send_str("x" * size)
                message = await socket.receive(timeout=10)
                assert (message.type, len(message.data)) == (WSMsgType.TEXT, 2 * size)
        await wait_until(lambda: ended, "the server hears that the client has closed")


def test_an_upgrade_must_be_for_this_hop() -> None:
    assert asked_upgrade(CIMultiDict({"Connection": "keep-alive, Upgrade", "Upgrade": "Tea/1"})) == "tea/1"
    assert asked_upgrade(CIMultiDict({"Upgrade": "tea/1"})) == ""
    assert asked_upgrade(CIMultiDict({"Connection": "upgrade"})) == ""


async def test_a_silent_tunnel_ends() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: tea/1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()

    async with between(silent, Limits(idle=0.05)) as port:
        head, rest = await ask(port)
    assert b" 101 " in head
    assert rest == b""
