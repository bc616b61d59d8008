"""Peers of the mesh that mean harm with opaque connections: floods, broken TLS, ends that nobody reads."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from typing import Any, cast

import pytest

from dataplane.serve.tunnel import Tunnel
from dataplane.wire.authority import mesh_sni
from tests.dataplane.serve.http import Client
from tests.dataplane.serve.mesh import QUICK, Handler, Mesh, Pod
from tests.dataplane.serve.test_tcp import echo, pair
from tests.dataplane.waiting import until


async def db(net: Mesh, handler: Handler = echo, **limits: Any) -> tuple[Pod, int]:
    """A pod with an opaque server that web and shop may reach; its port."""
    net.limits = replace(QUICK, **limits)
    pod = await net.pod("db")
    port = await net.serve(pod.ip, handler)
    pod.admit(net.anything(), net.anything("shop"))
    return pod, port


async def call(net: Mesh, caller: Pod, pod: Pod, port: int) -> Client:
    """An opaque mesh connection with a caller's certificate, in hands that are not its proxy's."""
    return await net.client(
        (pod.ip, pod.settings.mesh_port),
        ssl=caller.contexts.client_tcp_context,
        server_hostname=mesh_sni(port),
    )


def closed(pod: Pod) -> dict[str, int]:
    found: dict[str, int] = {}
    for series in pod.telemetry._tcp.values():
        for reason, count in series.closed.items():
            found[reason] = found.get(reason, 0) + count
    return found


def below(transport: asyncio.BaseTransport) -> socket.socket:
    """The TCP socket under a TLS connection, to write what is no TLS."""
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


async def test_connections_of_one_peer_are_bounded_and_others_have_theirs(net: Mesh) -> None:
    pod, port = await db(net, requests_per_peer=3)
    web, shop = net.make("web"), net.make("shop")
    clients = [await call(net, web, pod, port) for _ in range(3)]
    for client in clients:
        client.send(b"x")
        assert await client.read(1) == b"x"
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await (await call(net, web, pod, port)).read(1)
    assert closed(pod) == {"overflow": 1}
    other = await call(net, shop, pod, port)
    other.send(b"y")
    assert await other.read(1) == b"y"
    clients[0].reset()
    await until(lambda: closed(pod) == {"overflow": 1, "aborted": 1})
    again = await call(net, web, pod, port)
    again.send(b"z")
    assert await again.read(1) == b"z"


async def test_connections_to_the_app_are_bounded(net: Mesh) -> None:
    pod, port = await db(net, requests_to_app=2)
    for name in ("web", "shop"):
        client = await call(net, net.make(name), pod, port)
        client.send(b"x")
        assert await client.read(1) == b"x"
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await (await call(net, net.make("web"), pod, port)).read(1)
    assert closed(pod) == {"overflow": 1}


@pytest.mark.parametrize(
    "rubbish", [b"\xff" * 100, b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x03\xff\xff"]
)
async def test_broken_records_end_both_sides(net: Mesh, rubbish: bytes) -> None:
    """Also where more of a record is announced than there may be."""
    ends: list[BaseException | bytes] = []

    async def listens(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            ends.append(await reader.read(1))
            ends.append(await reader.read())
        except ConnectionError as error:
            ends.append(error)

    pod, port = await db(net, listens)
    client = await call(net, net.make("web"), pod, port)
    client.send(b"x")
    await until(lambda: ends)
    with below(client.writer.transport) as sock:
        sock.send(rubbish)
    await until(lambda: len(ends) == 2)
    assert isinstance(ends[1], ConnectionResetError), "never the end of a stream"
    await until(lambda: pod.running.connections == 0)
    assert closed(pod) == {"aborted": 1}


@pytest.mark.parametrize("how", ["rubbish", "end"])
async def test_a_peer_that_breaks_tls_and_does_not_read_is_let_go(net: Mesh, how: str) -> None:
    """What waits for it would never be taken; nor is its end an end without close_notify (RFC 8446 §6.1)."""

    async def pours(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()

    net.limits = replace(QUICK, handshake=0.3)
    web, pod = await pair(net, pours)
    client = await net.client(web.outbound)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
    await until(lambda: pod.running.connections)
    [at_web], [at_pod] = (cast("set[Tunnel]", one.running._serving.registry._served) for one in (web, pod))
    await until(lambda: at_pod.client.transport and at_pod.client.transport.get_write_buffer_size() > 1 << 16)
    assert at_web.server.transport is not None
    with below(at_web.server.transport) as sock:
        if how == "rubbish":
            sock.send(b"\xff" * 100)
        else:
            sock.shutdown(socket.SHUT_WR)
        await until(lambda: pod.running.connections == 0)
    assert closed(pod) == {"aborted": 1}


async def test_peers_that_leave_while_the_app_is_called(net: Mesh) -> None:
    """For an app that does not listen yet, which is waited for."""
    net.limits = replace(QUICK, hold=0.3)
    pod = await net.pod("db")
    pod.admit(net.anything())
    clients = [await call(net, net.make("web"), pod, 9) for _ in range(5)]
    for client in clients:
        client.send(b"early")
    await until(lambda: pod.running.connections)
    for client in clients:
        client.reset()
    await until(lambda: sum(closed(pod).values()) == 5)
    assert pod.running.connections == pod.running.inbound.active() == 0


async def test_what_is_sent_before_there_is_a_server_is_bounded(net: Mesh) -> None:
    net.limits = replace(QUICK, hold=0.5)
    pod = await net.pod("db")
    pod.admit(net.anything())
    client = await call(net, net.make("web"), pod, 9)
    client.send(bytes(8 << 20))
    await until(lambda: pod.running.connections)
    [tunnel] = pod.running._serving.registry._served
    await until(lambda: tunnel.client.received)  # type: ignore[attr-defined]  # a tunnel
    await until(lambda: pod.running.connections == 0)
    assert tunnel.client.received < 1 << 20  # type: ignore[attr-defined]  # a tunnel
    assert closed(pod) == {"connect-failed": 1}
