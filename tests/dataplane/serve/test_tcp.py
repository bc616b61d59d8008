"""Opaque bytes: tunnels between pods, with half-close, resets and back-pressure."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dataplane.serve.sockets import reset
from smi.policy.snapshot import Endpoint, Protocol
from tests.dataplane.serve.http import Client
from tests.dataplane.serve.mesh import QUICK, Handler, Mesh, Pod, match, routes
from tests.dataplane.waiting import DEADLINE, until

DB = "10.96.0.9:5432"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def pair(net: Mesh, handler: Handler, protocol: Protocol = Protocol.TCP) -> tuple[Pod, Pod]:
    """web reaches db's opaque port by its service address."""
    web = await net.pod("web", original=lambda _: ("10.96.0.9", 5432))
    db = await net.pod("db")
    port = await net.serve(db.ip, handler)
    web.admit()
    db.admit(net.anything())
    web.reach(DB, [db.endpoint(port)], service="shop/db", protocol=protocol)
    return web, db


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.DETECT])
async def test_bytes_pass_unchanged(net: Mesh, protocol: Protocol) -> None:
    web, db = await pair(net, echo, protocol)
    client = await net.client(web.outbound)
    client.send(b"SELECT 1;\n\x00\xff")
    assert await client.read(12) == b"SELECT 1;\n\x00\xff"
    client.close()
    await until(lambda: web.running.connections == db.running.connections == 0)
    [series] = web.telemetry._tcp.values()
    assert (series.opened, series.closed, series.sent, series.received) == (1, {"": 1}, 12, 12)
    [series] = db.telemetry._tcp.values()
    assert (series.opened, series.closed) == (1, {"": 1})


async def test_either_side_may_close_first(net: Mesh) -> None:
    async def sums(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(b"%d" % len(data))

    web, _ = await pair(net, sums)
    client = await net.client(web.outbound)
    client.send(b"x" * 100_000)
    client.writer.write_eof()
    assert await client.closed() == b"100000"


async def test_server_may_close_its_side_first(net: Mesh) -> None:
    got: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"over")
        writer.write_eof()
        got.append(await reader.read())

    web, _ = await pair(net, handler)
    client = await net.client(web.outbound)
    assert await client.closed() == b"over"
    client.send(b"thanks")
    client.writer.write_eof()
    await until(lambda: got)
    assert got == [b"thanks"]


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.DETECT])
async def test_server_that_speaks_first_is_heard(net: Mesh, protocol: Protocol) -> None:
    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await echo(reader, writer)

    web, _ = await pair(net, greets, protocol)
    client = await net.client(web.outbound)
    assert await client.read(11) == b"220 ready\r\n"
    client.send(b"EHLO\r\n")
    assert await client.read(6) == b"EHLO\r\n"


async def test_connection_is_refused_by_reset(net: Mesh) -> None:
    """S25."""
    called: list[int] = []

    async def handler(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        called.append(1)

    web, db = await pair(net, handler)
    db.admit()
    client = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await client.closed()
    assert called == []
    [(reason, _, target)] = db.telemetry._denials.values
    assert (reason, target) == ("no-traffic-target", "shop/db-1")


async def test_http_routes_do_not_open_the_port_for_bytes(net: Mesh) -> None:
    web, db = await pair(net, echo)
    db.admit(routes(match(".*")))
    client = await net.client(web.outbound)
    client.send(b"hello")
    with pytest.raises(ConnectionResetError):
        await client.closed()


async def test_resets_pass_through_both_ways(net: Mesh) -> None:
    seen: list[BaseException] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line == b"die\n":
            reset(writer.transport)
            return
        try:
            await reader.read()
        except ConnectionError as error:
            seen.append(error)

    web, _ = await pair(net, handler)
    client = await net.client(web.outbound)
    client.send(b"die\n")
    with pytest.raises(ConnectionResetError):
        await client.closed()
    client = await net.client(web.outbound)
    client.send(b"live\n")
    await until(lambda: web.running.connections)
    client.reset()
    await until(lambda: seen)


async def test_unreachable_server_means_reset(net: Mesh) -> None:
    web, db = await pair(net, echo)
    gone = Endpoint(db.ip, 1, "shop/db-1", db.identity)
    web.reach(DB, [gone], service="shop/db", protocol=Protocol.TCP)
    client = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await client.closed()
    web.reach(DB, [], service="shop/db", protocol=Protocol.TCP)
    client = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await client.closed()


async def test_another_endpoint_is_tried(net: Mesh) -> None:
    web, _ = await pair(net, echo)
    [good] = web.state.cluster("shop/db:8080")
    dead = [replace(good, ip=f"127.99.0.{number}") for number in (1, 2)]
    web.reach(DB, [good, *dead], service="shop/db", protocol=Protocol.TCP)
    for _ in range(6):
        client = await net.client(web.outbound)
        client.send(b"ping")
        assert await client.read(4) == b"ping"


async def test_wrong_identity_is_not_spoken_to(net: Mesh) -> None:
    web, db = await pair(net, echo)
    [good] = web.state.cluster("shop/db:8080")
    web.reach(DB, [replace(good, identity=web.identity)], service="shop/db", protocol=Protocol.TCP)
    client = await net.client(web.outbound)
    client.send(b"secret")
    with pytest.raises(ConnectionResetError):
        await client.closed()
    [series] = [series for key, series in web.telemetry._tcp.items()]
    assert series.closed == {"wrong-peer": 1}
    await until(lambda: [series.sent for series in db.telemetry._tcp.values()] == [0])


async def _flood(client: Client, chunk: bytes, limit: int) -> int:
    """Write until the other side takes no more; bytes written."""
    sent = 0
    try:
        while sent < limit:
            client.send(chunk)
            sent += len(chunk)
            await asyncio.wait_for(client.writer.drain(), 0.3)
    except TimeoutError:
        return sent
    return sent


@pytest.mark.parametrize("meshed", [True, False])
async def test_a_reader_that_stalls_stops_its_writer(net: Mesh, meshed: bool) -> None:
    """What lies between them is bounded by the marks of the transports and the kernel's buffers."""
    go = asyncio.Event()
    received = 0

    async def stalls(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal received
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # nothing is to be read ahead
        await go.wait()
        reader._transport.resume_reading()  # type: ignore[attr-defined]  # likewise
        while data := await reader.read(1 << 16):
            received += len(data)

    web, db = await pair(net, stalls)
    if not meshed:
        [good] = web.state.cluster("shop/db:8080")
        web.reach(DB, [replace(good, identity=None)], service="shop/db", protocol=Protocol.TCP)
    client = await net.client(web.outbound)
    sent = await _flood(client, b"x" * 65536, 256 << 20)
    assert sent < 64 << 20
    held = [tunnel for pod in (web, db) for tunnel in pod.running._serving.registry._served]
    for tunnel in held:
        for end in (tunnel.client, tunnel.server):  # type: ignore[attr-defined]  # both are tunnels
            assert end.transport.get_write_buffer_size() < 1 << 20
    go.set()
    client.writer.write_eof()
    await until(lambda: received == sent, DEADLINE * 4)


async def test_idle_tunnels_are_closed(net: Mesh) -> None:
    net.limits = replace(QUICK, tunnel_idle=0.1)
    web, db = await pair(net, echo)
    client = await net.client(web.outbound)
    client.send(b"x")
    assert await client.read(1) == b"x"
    with pytest.raises(ConnectionResetError):
        await client.closed()
    # Both proxies are idle for the same time: either may be the first to notice.
    series = [*web.telemetry._tcp.values(), *db.telemetry._tcp.values()]
    await until(lambda: any(one.closed == {"idle": 1} for one in series))


async def test_unknown_destination_is_refused_when_the_controller_is_silent(net: Mesh) -> None:
    net.limits = replace(QUICK, lookup=0.05)
    web = await net.pod("web", original=lambda _: ("10.96.0.9", 5432))
    client = await net.client(web.outbound)
    client.send(b"hello")
    with pytest.raises(ConnectionResetError):
        await client.closed()


async def test_destination_is_asked_for_on_first_use(net: Mesh) -> None:
    web, db = await pair(net, echo)
    [good] = web.state.cluster("shop/db:8080")
    fresh = await net.pod("web", original=lambda _: ("10.96.0.9", 5432))
    fresh.admit()
    client = await net.client(fresh.outbound)
    client.send(b"early")
    await until(lambda: fresh.state.subscriptions == (DB,))
    fresh.reach(DB, [good], service="shop/db", protocol=Protocol.TCP)
    assert await client.read(5) == b"early"
    assert db.count("inbound") == {}
