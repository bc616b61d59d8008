"""The last exchange of a connection: what is said of its end, and how much is listened to afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dataplane.tasks import Tasks
from tests.dataplane.serve.http import Client, Echo, get, plain, read_message
from tests.dataplane.serve.mesh import API, QUICK, Mesh, two_hops


async def test_an_answer_that_begins_while_the_proxy_drains_says_so(net: Mesh) -> None:
    """Whether it comes in one piece or in several."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        begun.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await writer.drain()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    web, _ = await two_hops(net, slow)
    client = await net.client(web.outbound)
    client.send(get(API))
    await begun.wait()
    draining = Tasks().start("drain", web.running.drain(5.0))
    await asyncio.sleep(0)
    go.set()
    answer = await client.receive()
    assert (answer.body, answer.get("connection")) == (b"hi", "close")
    assert await client.closed() == b""
    await asyncio.wait_for(draining, 5.0)


async def test_who_pours_on_after_the_final_answer_is_cut_off(net: Mesh) -> None:
    net.limits = replace(QUICK, linger=60.0)
    web, _ = await two_hops(net, Echo(answer=lambda _: plain("never asked")))
    client = await net.client(web.outbound)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert (await client.receive()).status == 400
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(pour(client), 5.0)


async def pour(client: Client) -> None:
    for _ in range(10_000):
        client.send(b"x" * 65536)
        await client.writer.drain()
