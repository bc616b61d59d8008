"""Peers that mean harm or break in the middle: bounded time and memory, one outcome each, nothing left."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from dataplane.serve.sockets import reset
from dataplane.wire.http1 import MAX_INTERIMS
from tests.dataplane.serve.http import Echo, get, plain, read_message
from tests.dataplane.serve.mesh import API, Mesh, two_hops
from tests.dataplane.waiting import until

ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5\r\nhello\r\n0\r\nT: u\r\n\r\n"
HEAD = ANSWER.index(b"\r\n\r\n") + 4


async def test_resets_at_every_point_of_a_response(net: Mesh) -> None:
    """The client gets the whole answer, a 502, or a connection that visibly breaks; never half as whole."""
    cut = 0

    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(ANSWER[:cut])
        await writer.drain()
        await asyncio.sleep(0)
        if cut % 2:
            reset(writer.transport)

    web, api = await two_hops(net, breaks)
    seen: Counter[tuple[int, str]] = Counter()
    for cut in range(len(ANSWER) + 1):
        client = await net.client(web.outbound)
        client.send(get(API, "/", method="POST"))
        try:
            answer = await client.receive()
        except (ConnectionResetError, asyncio.IncompleteReadError):
            assert HEAD <= cut < len(ANSWER)
            seen[200, "truncated"] += 1
        else:
            whole = (answer.status, answer.body) == (200, b"hello")
            assert whole if cut == len(ANSWER) else answer.status == 502, (cut, answer)
            seen[answer.status, ""] += 1
        await until(lambda: web.count("outbound") == seen)
        client.reset()
    broken = {(502, "upstream-reset"): HEAD, (200, "truncated"): len(ANSWER) - HEAD, (200, ""): 1}
    assert api.count("inbound") == broken
    await until(lambda: web.running.connections == 0)
    assert sum(load.active for load in web.loads()) == 0


async def test_a_hundred_thousand_tiny_chunks(net: Mesh) -> None:
    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += await reader.read(1 << 16)
        writer.write(plain(str(data.count(b"\r\nx\r\n"))))

    web, api = await two_hops(net, counts)
    client = await net.client(web.outbound)
    client.send(
        get(API, "/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    )
    assert (await client.receive()).body == b"100000"
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 1}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * (1 << 20), 431),
        (b"GET /" + b"x" * (1 << 20), 431),
        (b"\r\n" * (1 << 19), 400),
    ],
)
async def test_endless_heads(net: Mesh, data: bytes, status: int) -> None:
    web, _ = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    client.send(data)
    assert (await client.receive()).status == status
    assert web.count("outbound") == {(status, "head-too-large" if status == 431 else "bad-request"): 1}
    client.reset()


@pytest.mark.parametrize(
    "head",
    [b"A: b\r\n" * 100_000, b"A: " + b"x" * (1 << 20), b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"],
)
async def test_servers_with_endless_heads(net: Mesh, head: bytes) -> None:
    async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await reader.read()

    web, api = await two_hops(net, bomb)
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (502, "bad-response")
    assert (web.count("outbound"), api.count("inbound")) == ({(502, ""): 1}, {(502, "bad-response"): 1})


async def test_a_server_that_switches_without_being_asked(net: Mesh) -> None:
    async def switches(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
        await reader.read()

    web, api = await two_hops(net, switches)
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 502
    assert (web.count("outbound"), api.count("inbound")) == ({(502, ""): 1}, {(502, "bad-response"): 1})


@pytest.mark.parametrize(("count", "status"), [(MAX_INTERIMS, 200), (60_000, 502)])
async def test_interim_answers_without_end(net: Mesh, count: int, status: int) -> None:
    """However many come in one piece; they would go past every window."""

    async def dawdles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 102\r\n\r\n" * count + plain("at last"))
        await reader.read()

    web, api = await two_hops(net, dawdles)
    client = await net.client(web.outbound)
    client.send(get(API))
    seen = 0
    while (answer := await client.receive()).status == 102:
        seen += 1
    assert (answer.status, seen) == (status, MAX_INTERIMS)
    assert api.count("inbound") == {(status, "bad-response" if status == 502 else ""): 1}
    assert web.count("outbound") == {(status, ""): 1}
