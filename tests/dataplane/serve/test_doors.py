"""What no caller gets through: the proxy's own ports, protocols not agreed on, words of strangers."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

import pytest

from dataplane.wire.authority import mesh_sni
from smi.names import ALPN_HTTP1, ALPN_TCP
from smi.policy.snapshot import Mtls, Protocol
from tests.dataplane.serve.http import Echo, get, plain, read_message
from tests.dataplane.serve.mesh import API, QUICK, Mesh, Pod, two_hops
from tests.dataplane.waiting import until

DIRECT = b"GET / HTTP/1.1\r\nHost: api\r\n\r\n"


def dialler(pod: Pod, *alpn: str) -> ssl.SSLContext:
    """What a workload can dial a mesh port with, should it do so by itself."""
    context = pod.contexts._context(ssl.PROTOCOL_TLS_CLIENT, [])
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@pytest.mark.parametrize("alpn", [ALPN_HTTP1, ALPN_TCP])
async def test_no_peer_reaches_the_proxys_own_ports(net: Mesh, alpn: str) -> None:
    """The admin port believes whoever comes from the pod itself, as the proxy does."""
    web, api = await two_hops(net, Echo())
    own = api.settings
    for port in (own.admin_port, own.outbound_port, own.mesh_port):
        client = await net.client(
            (api.ip, net.mesh_port), ssl=dialler(web, alpn), server_hostname=mesh_sni(port)
        )
        client.send(DIRECT)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.receive()
    assert api.count("inbound") == {}


@pytest.mark.parametrize("alpn", [(), ("spdy/3",)], ids=["none", "unknown"])
async def test_a_peer_must_say_what_it_speaks(net: Mesh, alpn: tuple[str, ...]) -> None:
    """Or a request would pass as opaque bytes, which other rules let in."""
    echo = Echo()
    web, api = await two_hops(net, echo)
    [endpoint] = web.state.cluster("shop/api:8080")
    client = await net.client(
        (api.ip, net.mesh_port), ssl=dialler(web, *alpn), server_hostname=mesh_sni(endpoint.port)
    )
    client.send(DIRECT)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.receive()
    assert echo.connections == 0


async def test_no_stranger_reaches_the_proxys_own_ports(net: Mesh) -> None:
    where = [("", 0)]
    pod = await net.pod("api", original=lambda _: where[0], plain=True)
    pod.admit(mtls=Mtls.PERMISSIVE)
    port = await net.serve(pod.ip, Echo())
    for own in (pod.settings.admin_port, pod.settings.inbound_port, pod.settings.mesh_port):
        where[0] = pod.ip, own
        client = await net.client(("127.0.0.1", pod.settings.inbound_port))
        client.send(DIRECT)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.receive()
    where[0] = pod.ip, port
    client = await net.client(("127.0.0.1", pod.settings.inbound_port))
    assert (await client.ask(DIRECT)).status == 200


async def test_only_peers_are_believed_that_a_request_reached_nobody(net: Mesh) -> None:
    """A server without a sidecar could have a payment made twice."""
    said = plain("no", "503 Service Unavailable", "x-smi-mesh-reason: connect-failed")
    echo = Echo(answer=lambda _: said)
    web = await net.pod("web")
    ports = [await net.serve(web.ip, echo) for _ in range(2)]
    web.reach(API, [replace(web.endpoint(port), identity=None) for port in ports])
    client = await net.client(web.outbound)
    answer = await client.ask(get(API, "/pay", "Content-Length: 2", method="POST") + b"10")
    assert (answer.status, answer.body) == (503, b"no")
    assert len(echo.seen) == 1


async def test_what_the_mesh_does_not_know_is_bounded_as_well(net: Mesh) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        begun.set()
        await go.wait()
        writer.write(plain("done"))
        await reader.read()

    net.limits = replace(QUICK, requests_per_endpoint=1)
    web = await net.pod("web")
    port = await net.serve(web.ip, slow)
    outside = f"{web.ip}:{port}"
    web.pass_through(outside)
    first, second = await net.client(web.outbound), await net.client(web.outbound)
    first.send(get(outside))
    await begun.wait()
    answer = await second.ask(get(outside))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    go.set()
    assert (await first.receive()).body == b"done"


async def test_a_client_that_pours_while_its_destination_is_looked_up_is_not_read(net: Mesh) -> None:
    net.limits = replace(QUICK, lookup=30.0)
    web = await net.pod("web")
    client = await net.client(web.outbound)
    client.send(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
    assert (await client.receive(head_only=True)).status == 200
    client.send(b"x" * (64 << 20))
    transport = client.writer.transport
    left = transport.get_write_buffer_size()
    while True:
        for _ in range(200):
            await asyncio.sleep(0)
        if transport.get_write_buffer_size() == left:
            break
        left = transport.get_write_buffer_size()
    assert left > 32 << 20
    web.reach(API, [], protocol=Protocol.TCP)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.read(1)


async def test_an_endpoint_that_refused_an_opaque_connection_is_avoided_for_a_while(net: Mesh) -> None:
    net.limits = replace(QUICK, suspect=0.2)
    web, _ = await two_hops(net, greeting, protocol=Protocol.TCP)
    [alive] = web.state.cluster("shop/api:8080")
    gone = await net.pod("gone")
    web.reach(API, [alive, gone.endpoint(1)], protocol=Protocol.TCP)
    await gone.running.drain(0.0)
    refused = False
    for _ in range(20):
        client = await net.client(web.outbound)
        client.send(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
        assert (await client.receive(head_only=True)).status == 200
        assert await client.read(2) == b"hi"
        refused = refused or any(load.suspect for load in web.loads())
    assert refused
    await until(lambda: not any(load.suspect for load in web.loads()))


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hi")
    await reader.read()
