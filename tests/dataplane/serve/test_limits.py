"""Slow and stalled peers: bounded time, bounded memory. What is counted of them: mostly test_outcomes.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.dataplane.serve.http import Echo, get, plain, read_message
from tests.dataplane.serve.mesh import API, QUICK, Mesh, Pod, next_address, two_hops
from tests.dataplane.waiting import DEADLINE, until


async def test_slow_head(net: Mesh) -> None:
    net.limits = replace(QUICK, request_head=0.1)
    web, _ = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    answer = await client.ask(b"GET / HTTP/1.1\r\n")
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (408, "request-timeout")
    assert await client.closed() == b""
    assert web.count("outbound") == {(408, "request-timeout"): 1}


async def test_idle_client(net: Mesh) -> None:
    net.limits = replace(QUICK, client_idle=0.1)
    web, _ = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    assert await client.closed() == b""
    assert web.count("outbound") == {(200, ""): 1}


async def test_silent_peer_at_the_mesh_port(net: Mesh) -> None:
    net.limits = replace(QUICK, handshake=0.1)
    api = await net.pod("api")
    client = await net.client((api.ip, net.mesh_port))
    assert await client.closed() == b""
    assert api.telemetry._counters["smi_mesh_tls_handshakes_total"].values == {("server", "failed"): 1}
    assert api.count("inbound") == {}


async def test_server_that_accepts_but_does_not_shake_hands(net: Mesh) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.Event().wait()

    net.limits = replace(QUICK, connect=0.1)
    web, _ = await two_hops(net, Echo())
    [endpoint] = web.state.cluster("shop/api:8080")
    other = next_address()
    await net.serve(other, silent, net.mesh_port)
    web.reach(API, [replace(endpoint, ip=other)])
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (504, "connect-timeout")
    assert web.count("outbound") == {(504, "connect-timeout"): 1}


def buffered(pods: list[Pod]) -> int:
    """Bytes that wait in the transports of these proxies' exchanges."""
    total = 0
    for pod in pods:
        for served in list(pod.running._serving.registry._served):
            transports = [served._transport]  # type: ignore[attr-defined]  # all here are Downstreams
            upstream = served._upstream  # type: ignore[attr-defined]  # likewise
            if upstream is not None:
                transports.append(upstream.transport)
            total += sum(transport.get_write_buffer_size() for transport in transports)
            total += len(served._inbox)  # type: ignore[attr-defined]  # likewise
    return total


async def test_client_that_does_not_read_stops_the_server(net: Mesh) -> None:
    sent = 0
    total = 64 << 20

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    web, api = await two_hops(net, floods)
    client = await net.client(web.outbound)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a StreamWriter's has it
    client.send(get(API))
    await _settled(lambda: sent)
    assert 0 < sent < 48 << 20
    assert buffered([web, api]) < 4 << 20
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # likewise
    assert len((await asyncio.wait_for(read_message(client.reader), DEADLINE * 4)).body) == total
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 1}


async def test_server_that_does_not_read_stops_the_client(net: Mesh) -> None:
    go = asyncio.Event()
    total = 64 << 20

    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # nothing is to be read ahead
        await go.wait()
        reader._transport.resume_reading()  # type: ignore[attr-defined]  # likewise
        left = total
        while left:
            left -= len(await reader.read(1 << 20))
        writer.write(plain("all of it"))

    web, api = await two_hops(net, stalls)
    client = await net.client(web.outbound)
    client.send(get(API, "/", f"Content-Length: {total}", method="PUT"))
    sent = 0

    async def upload() -> None:
        nonlocal sent
        while sent < total:
            client.send(b"x" * 65536)
            sent += 65536
            await client.writer.drain()

    uploading = asyncio.get_running_loop().create_task(upload())
    await _settled(lambda: sent)
    assert 0 < sent < 48 << 20
    assert buffered([web, api]) < 4 << 20
    go.set()
    await asyncio.wait_for(uploading, DEADLINE * 4)
    assert (await client.receive()).body == b"all of it"
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 1}


async def test_client_that_pipelines_without_reading_is_stopped(net: Mesh) -> None:
    """Even answers of our own wait for their reader."""
    web, api = await two_hops(net, Echo())
    api.admit()
    client = await net.client(web.outbound, receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a StreamWriter's has it
    stopped = False
    for _ in range(2000):
        client.send(get(API) * 1000)
        try:
            await asyncio.wait_for(client.writer.drain(), 0.5)
        except TimeoutError:
            stopped = True
            break
    assert stopped
    assert buffered([web, api]) < 4 << 20
    assert web.count("outbound").keys() == {(403, "")}
    assert api.count("inbound").keys() == {(403, "no-traffic-target")}


async def _settled(read: object) -> None:
    """Return when a number has grown and then has not changed for a while."""
    assert callable(read)
    loop = asyncio.get_running_loop()
    last, since = read(), loop.time()

    def still() -> bool:
        nonlocal last, since
        if read() != last or not last:
            last, since = read(), loop.time()
        return loop.time() - since > 0.3

    await until(still)
