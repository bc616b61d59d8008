"""Peers that mean harm or break in the middle: bounded time and memory, one outcome each, nothing left."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter

import pytest

from dataplane.serve.sockets import reset
from dataplane.wire.http1 import MAX_INTERIMS
from tests.dataplane.control.authority import Authority
from tests.dataplane.serve.http import Echo, get, plain, read_message
from tests.dataplane.serve.mesh import API, Contexts, Mesh, two_hops
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


NO_HANDSHAKES = (
    b"GET / HTTP/1.1\r\nHost: api\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"SSH-2.0-x\r\n",
    b"\x80\x2e\x01\x00\x02" + bytes(44),  # SSL 2
    b"\x16\x03\x01\xff\xff" + bytes(100),  # a record larger than there are
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",  # an empty ClientHello
    b"\x16\x03\x03\x40\x00\x01\x00\x3f\xfc" + bytes(16_380),  # one of zeros
    b"\x15\x03\x03\x00\x02\x01\x00" * 1000,  # warnings without end
)


@pytest.mark.parametrize("begun", NO_HANDSHAKES, ids=range(len(NO_HANDSHAKES)))
async def test_what_is_no_handshake_at_the_mesh_port(net: Mesh, begun: bytes) -> None:
    """Nothing but an alert comes back; the handshake is counted as failed, and the port serves others."""
    web, api = await two_hops(net, Echo())
    stranger = await net.client((api.ip, net.mesh_port))
    stranger.send(begun)
    try:
        answer = await stranger.closed()
    except ConnectionResetError:
        answer = b""
    assert answer == b"" or (answer[0], len(answer)) == (21, 7)
    assert api.telemetry._counters["smi_mesh_tls_handshakes_total"].values == {("server", "failed"): 1}
    assert (await (await net.client(web.outbound)).ask(get(API))).status == 200
    assert api.count("inbound") == {(200, ""): 1}


@pytest.mark.parametrize("how", ["TLS 1.2", "no certificate", "another authority", "no ALPN", "unknown ALPN"])
async def test_tls_that_is_no_peer_s(net: Mesh, how: str) -> None:
    """However far it comes, it does not come to the app."""
    web, api = await two_hops(net, Echo())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if how == "TLS 1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif how == "another authority":
        context = Contexts(Authority(), "web", "web-1").client_context
        context.verify_mode = ssl.CERT_NONE
    elif how != "no certificate":
        context = web.contexts.client_context
        context.set_alpn_protocols(["foo"] if how == "unknown ALPN" else [])

    async def ask() -> None:
        client = await net.client((api.ip, net.mesh_port), ssl=context, server_hostname="8080.api")
        await client.ask(get(API))

    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await ask()
    assert api.count("inbound") == {}
    web.contexts.rotate()
    assert (await (await net.client(web.outbound)).ask(get(API))).status == 200
