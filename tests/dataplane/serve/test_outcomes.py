"""Every request has one outcome in the metrics of either proxy, and it names who broke off or was too slow.

For HTTP/1.1 and HTTP/2. Time-outs pass by the clock of one of the two proxies, who is the first to see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dataplane.wire.http2 import Code
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http import Client, get, read_message
from tests.dataplane.serve.http2 import POST_API, TO_API, App, Peer, dial, shop, silent
from tests.dataplane.serve.mesh import API, QUICK, Handler, Mesh, Pod, next_address, two_hops
from tests.dataplane.waiting import until
from tests.dataplane.wire.http2.kit import OK

LIMIT = 100.0
"""Seconds; the other limits are longer, or end nothing here."""
LARGE = 32 << 20
"""Bytes that fit into no buffers on the way, nor into windows."""
HASTY = pytest.mark.parametrize("hasty", ["web", "api"])


async def outcomes(web: Pod, api: Pod, outbound: tuple[int, str], inbound: tuple[int, str] | None) -> None:
    """Both have counted exactly this, and hold nothing any more."""
    await until(lambda: web.count("outbound") and (api.count("inbound") or not inbound))
    assert (web.count("outbound"), api.count("inbound")) == ({outbound: 1}, {inbound: 1} if inbound else {})
    await until(lambda: not any(load.active for load in web.loads()))
    await until(lambda: not served(web))


def served(pod: Pod) -> list[Any]:
    """Its clients' connections."""
    return list(pod.running._serving.registry._served)


def wait(pod: Pod, seconds: float) -> None:
    """Let so much time pass for this proxy, in which nothing moves."""
    registry = pod.running._serving.registry
    now = registry.now
    registry.now += seconds
    for one in served(pod):
        if one.deadline < registry.now:
            one.expire()
    registry.now = now


def time_out(pod: Pod, direction: str) -> None:
    """Not before its time."""
    wait(pod, LIMIT - 10)
    assert pod.count(direction) == {}
    wait(pod, LIMIT + 10)


# --- servers and clients that stop in the middle --------------------------------------------------------


async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Reads, and says nothing."""
    while await reader.read(1 << 16):
        pass


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says half of its answer."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await reader.read()


async def deaf(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Reads no body."""
    await reader.readuntil(b"\r\n\r\n")
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # nothing is to be read ahead
    await asyncio.Event().wait()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_message(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + bytes(LARGE))
    await reader.read()


def begins(peer: Peer) -> None:
    """Says half of its answer."""
    for _, stream in peer.asked():
        peer.connection.send_head(stream, OK, end=False)
        peer.connection.send_data(stream, b"half", end=False)


def floods(peer: Peer) -> None:
    for _, stream in peer.asked():
        peer.connection.send_head(stream, OK, end=False)
        peer.connection.send_data(stream, bytes(LARGE), end=True)


async def http1(net: Mesh, handler: Handler) -> tuple[Pod, Pod, Client]:
    web, api = await two_hops(net, handler)
    return web, api, await net.client(web.outbound)


async def http2(
    net: Mesh, react: Callable[[Peer], None], *, credit: bool = True
) -> tuple[Pod, Pod, Peer, App]:
    web, api, app = await shop(net, App(react, credit=credit))
    return web, api, await dial(web, credit=credit), app


def exchanges(pod: Pod) -> list[Any]:
    """What is under way on the HTTP/2 connections of its clients."""
    streams = [stream for link in served(pod) for stream in link.connection.streams.values()]
    return [stream.owner for stream in streams if stream.owner is not None]


def first(hasty: str, web: Pod, api: Pod) -> tuple[Pod, str]:
    """The proxy whose time has passed, and the direction it counts."""
    return (web, "outbound") if hasty == "web" else (api, "inbound")


def at_fault(hasty: str, status: int, reason: str, answered: int) -> tuple[tuple[int, str], tuple[int, str]]:
    """Where `hasty` gives up: for api, web has gone; for web, api answers as a server does.

    `answered`: the status that was relayed by then, 0: none.
    """
    if hasty == "web":
        return (status, reason), (answered, "client-gone")
    return (status, "truncated" if answered else ""), (status, reason)


# --- too slow -------------------------------------------------------------------------------------------


@HASTY
async def test_a_server_that_does_not_answer(net: Mesh, hasty: str) -> None:
    net.limits = replace(QUICK, response=LIMIT)
    asked = asyncio.Event()

    async def silent_too(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await mute(reader, writer)

    web, api, client = await http1(net, silent_too)
    client.send(get(API))
    await asked.wait()
    time_out(*first(hasty, web, api))
    answer = await client.receive()
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (504, "response-timeout")
    client.close()
    await outcomes(web, api, *at_fault(hasty, 504, "response-timeout", 0))


@HASTY
async def test_a_server_that_does_not_answer_http2(net: Mesh, hasty: str) -> None:
    net.limits = replace(QUICK, response=LIMIT)
    web, api, client, app = await http2(net, silent)
    client.get()
    await app.reached()
    time_out(*first(hasty, web, api))
    await until(lambda: client.heads() == [504])
    client.transport.close()
    await outcomes(web, api, *at_fault(hasty, 504, "response-timeout", 0))


@HASTY
async def test_a_client_that_does_not_finish_its_body(net: Mesh, hasty: str) -> None:
    net.limits = replace(QUICK, stall=LIMIT)
    read = b""

    async def reads(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal read
        while data := await reader.read(1 << 16):
            read += data

    web, api, client = await http1(net, reads)
    client.send(get(API, "/", "Content-Length: 10", method="POST") + b"half")
    await until(lambda: read.endswith(b"half"))
    time_out(*first(hasty, web, api))
    answer = await client.receive()
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (408, "request-timeout")
    assert await client.closed() == b""
    client.close()
    await outcomes(web, api, *at_fault(hasty, 408, "request-timeout", 0))


@HASTY
async def test_a_client_that_does_not_finish_its_body_http2(net: Mesh, hasty: str) -> None:
    net.limits = replace(QUICK, stall=LIMIT)
    web, api, client, app = await http2(net, silent)
    stream = client.connection.open(POST_API, None, end=False)
    client.connection.send_data(stream, b"half", end=False)
    client.flush()
    await until(lambda: app.peers and app.peers[0].events.data.get(1) == b"half")
    time_out(*first(hasty, web, api))
    await until(lambda: client.heads() == [408])
    client.transport.close()
    await outcomes(web, api, *at_fault(hasty, 408, "request-timeout", 0))


@HASTY
async def test_a_server_that_does_not_finish_its_answer(net: Mesh, hasty: str) -> None:
    net.limits = replace(QUICK, stall=LIMIT)
    web, api, client = await http1(net, half)
    client.send(get(API))
    await client.reader.readuntil(b"half")
    time_out(*first(hasty, web, api))
    with pytest.raises(ConnectionResetError):
        await client.closed()
    await outcomes(web, api, *at_fault(hasty, 200, "truncated", 200))


@HASTY
async def test_a_server_that_does_not_finish_its_answer_http2(net: Mesh, hasty: str) -> None:
    net.limits = replace(QUICK, stall=LIMIT)
    web, api, client, _ = await http2(net, begins)
    client.get()
    await until(lambda: client.events.data.get(1) == b"half")
    time_out(*first(hasty, web, api))
    await until(lambda: ("reset", 1, Code.INTERNAL_ERROR) in client.events.seen)
    client.transport.close()
    await outcomes(web, api, *at_fault(hasty, 200, "truncated", 200))


async def test_a_server_that_does_not_read(net: Mesh) -> None:
    """The client has the rest of its body ready: it is not the one who is too slow."""
    net.limits = replace(QUICK, stall=LIMIT)
    web, api, client = await http1(net, deaf)
    client.send(get(API, "/", f"Content-Length: {LARGE}", method="PUT") + bytes(LARGE))
    await until(lambda: any(getattr(one, "_upstream", None) and one._paused for one in served(api)))
    time_out(api, "inbound")
    answer = await client.receive()
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (504, "response-timeout")
    client.reset()
    await outcomes(web, api, (504, ""), (504, "response-timeout"))


@HASTY
async def test_a_server_that_does_not_read_http2(net: Mesh, hasty: str) -> None:
    net.limits = replace(QUICK, stall=LIMIT)
    web, api, client, _ = await http2(net, silent, credit=False)
    stream = client.connection.open(POST_API, None, end=False)
    client.connection.send_data(stream, bytes(LARGE), end=True)
    client.flush()
    late = first(hasty, web, api)
    await until(lambda: any(one._up_stream and one._up_stream.outbox for one in exchanges(late[0])))
    time_out(*late)
    await until(lambda: client.heads() == [504])
    client.transport.abort()
    await outcomes(web, api, *at_fault(hasty, 504, "response-timeout", 0))


async def test_a_client_that_does_not_read(net: Mesh) -> None:
    """It has the same time as a server that does not write; then it is as good as gone."""
    net.limits = replace(QUICK, stall=LIMIT)
    web, api, client = await http1(net, flood)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a StreamWriter's has it
    client.send(get(API))
    await until(lambda: any(getattr(one, "_blocked", False) for one in served(web)))
    time_out(web, "outbound")
    await outcomes(web, api, (200, "client-gone"), (200, "client-gone"))


async def test_a_client_that_does_not_read_http2(net: Mesh) -> None:
    net.limits = replace(QUICK, stall=LIMIT)
    web, api, client, _ = await http2(net, floods, credit=False)
    client.get()
    await until(lambda: any(one._stream.outbox for one in exchanges(web)))
    time_out(web, "outbound")
    client.transport.abort()
    await outcomes(web, api, (200, "client-gone"), (200, "client-gone"))


# --- gone -----------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_in_an_answer(net: Mesh) -> None:
    web, api, client = await http1(net, half)
    client.send(get(API))
    await client.reader.readuntil(b"half")
    client.reset()
    await outcomes(web, api, (200, "client-gone"), (200, "client-gone"))


async def test_a_stream_that_its_client_ends_in_an_answer(net: Mesh) -> None:
    """As a watch over gRPC ends."""
    web, api, client, _ = await http2(net, begins)
    stream = client.get()
    await until(lambda: client.events.data.get(1) == b"half")
    client.connection.reset(stream, Code.CANCEL)
    client.flush()
    await until(lambda: web.count("outbound"))
    client.transport.close()
    await outcomes(web, api, (200, "client-gone"), (200, "client-gone"))


async def test_a_client_that_leaves_while_the_controller_is_asked(net: Mesh) -> None:
    web, api, client = await http1(net, mute)
    client.send(get("unheard.of:80"))
    await until(lambda: "unheard.of:80" in web.state.subscriptions)
    client.reset()
    await outcomes(web, api, (0, "client-gone"), None)


async def test_a_stream_that_ends_while_the_controller_is_asked(net: Mesh) -> None:
    web, api, client, _ = await http2(net, silent)
    stream = client.connection.open([*TO_API[:3], (b":authority", b"unheard.of:80")], None, end=True)
    client.flush()
    await until(lambda: "unheard.of:80" in web.state.subscriptions)
    client.connection.reset(stream, Code.CANCEL)
    client.flush()
    await until(lambda: web.count("outbound"))
    client.transport.close()
    await outcomes(web, api, (0, "client-gone"), None)


async def test_nonsense_behind_a_request_that_is_being_answered(net: Mesh) -> None:
    web, api, client = await http1(net, half)
    client.send(get(API, "/", "Transfer-Encoding: chunked", method="POST"))
    await client.reader.readuntil(b"half")
    client.send(b"no chunk\r\n")
    with pytest.raises(ConnectionResetError):
        await client.closed()
    await outcomes(web, api, (200, "bad-request"), (200, "client-gone"))


async def test_nonsense_behind_a_stream_that_is_being_answered(net: Mesh) -> None:
    web, api, client, _ = await http2(net, begins)
    stream = client.connection.open([*POST_API, (b"content-length", b"1")], None, end=False)
    client.flush()
    await until(lambda: client.events.data.get(1) == b"half")
    client.connection.send_data(stream, b"more than one", end=True)
    client.flush()
    await until(lambda: web.count("outbound"))
    client.transport.close()
    await outcomes(web, api, (200, "bad-request"), (200, "client-gone"))


async def test_nonsense_instead_of_an_answer(net: Mesh) -> None:
    def wrong(peer: Peer) -> None:
        for _, stream in peer.asked():
            peer.connection.send_head(stream, [*OK, *OK], end=False)

    web, api, client, _ = await http2(net, wrong)
    client.get()
    await until(lambda: client.heads() == [502])
    client.transport.close()
    await outcomes(web, api, (502, ""), (502, "bad-response"))


# --- the proxy ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("handler", "status"), [(mute, 0), (half, 200)])
async def test_a_proxy_that_ends_before_the_answer_does(net: Mesh, handler: Handler, status: int) -> None:
    web, api, client = await http1(net, handler)
    client.send(get(API))
    await until(lambda: served(api))
    if status:
        await client.reader.readuntil(b"half")
    client.send(get(API))
    await web.running.drain(0.0)
    await outcomes(web, api, (status, "shutdown"), (status, "client-gone"))


async def test_a_proxy_that_ends_while_it_waits_for_a_connection(net: Mesh) -> None:
    """One that does not come: nobody shakes hands there."""
    web, api, client = await http1(net, mute)
    [endpoint] = web.state.cluster("shop/api:8080")
    other = next_address()
    await net.serve(other, mute, net.mesh_port)
    web.reach(API, [replace(endpoint, ip=other)])
    client.send(get(API))
    await until(lambda: any(load.active for load in web.loads()))
    await web.running.drain(0.0)
    await outcomes(web, api, (0, "shutdown"), None)


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.HTTP2])
async def test_a_proxy_that_ends_while_the_controller_is_asked(net: Mesh, protocol: Protocol) -> None:
    net.limits = replace(QUICK, lookup=60.0)
    if protocol is Protocol.HTTP2:
        web, api, peer, _ = await http2(net, silent)
        peer.connection.open([*TO_API[:3], (b":authority", b"unheard.of:80")], None, end=True)
        peer.flush()
    else:
        web, api, client = await http1(net, mute)
        client.send(get("unheard.of:80"))
    await until(lambda: "unheard.of:80" in web.state.subscriptions)
    await web.running.drain(0.0)
    await outcomes(web, api, (0, "shutdown"), None)


@pytest.mark.parametrize(("react", "status"), [(silent, 0), (begins, 200)])
async def test_a_proxy_that_ends_before_the_streams_do(
    net: Mesh, react: Callable[[Peer], None], status: int
) -> None:
    web, api, client, _ = await http2(net, react)
    client.get()
    await until(lambda: client.heads() if status else served(api))
    await web.running.drain(0.0)
    await outcomes(web, api, (status, "shutdown"), (status, "client-gone"))
