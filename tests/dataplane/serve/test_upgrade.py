"""Upgrades and CONNECT: connections that stop being HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from dataplane.accesslog import AccessLog
from dataplane.tap import TapFilter
from smi.names import AccessLogging
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http import Echo, get, read_message
from tests.dataplane.serve.mesh import API, Mesh, Pod, match, routes, two_hops
from tests.dataplane.waiting import DEADLINE, until

WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")


async def switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts an upgrade, greets in the new protocol, then echoes."""
    message = await read_message(reader)
    assert message.get("upgrade") == "websocket"
    assert message.get("connection") == "upgrade"
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: y\r\n\r\n\x81\x05hello"
    )
    while data := await reader.read(1 << 16):
        writer.write(data)


async def test_websocket_becomes_a_tunnel(net: Mesh) -> None:
    web, api = await two_hops(net, switching)
    client = await net.client(web.outbound)
    client.send(get(API, "/chat", *WEBSOCKET) + b"early")
    answer = await client.receive()
    assert (answer.status, answer.get("upgrade"), answer.get("connection")) == (101, "websocket", "upgrade")
    assert answer.get("sec-websocket-accept") == "y"
    assert await client.read(12) == b"\x81\x05helloearly"
    client.send(b"\x00" * 300_000)
    assert await client.read(300_000) == b"\x00" * 300_000
    assert sum(load.active for load in web.loads()) == 1
    client.writer.write_eof()
    assert await client.closed() == b""
    await until(lambda: web.running.connections == api.running.connections == 0)
    assert web.count("outbound") == api.count("inbound") == {(101, ""): 1}
    assert sum(load.active for load in web.loads()) == 0


def shown(pod: Pod) -> list[tuple[str, str, int, str]]:
    """(method, path, status, service) of all that a tap has taken."""
    ((_, requests, dropped),) = pod.tap.collect()
    assert dropped == 0
    return [(one["method"], one["path"], one["status"], one["service"]) for one in requests]


async def test_who_looks_on_sees_it_switch(net: Mesh) -> None:
    web, api = await two_hops(net, switching)
    for pod in (web, api):
        pod.tap.start("t", TapFilter(), 60, 10)
    client = await net.client(web.outbound)
    client.send(get(API, "/chat?token=1", *WEBSOCKET))
    assert (await client.receive()).status == 101
    assert await client.read(7) == b"\x81\x05hello"
    assert shown(web) == [("GET", "/chat", 101, "shop/api")]
    assert shown(api) == [("GET", "/chat", 101, "")]


async def test_who_looks_on_sees_connect_and_what_comes_through_it(net: Mesh) -> None:
    web, _ = await two_hops(net, Echo(), protocol=Protocol.DETECT)
    log = AccessLog(AccessLogging("json"), lambda: 0.0, lambda: 0.0)
    web.tap.log = log
    web.tap.start("t", TapFilter(), 60, 10)
    client = await net.client(web.outbound)
    head = f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()
    assert (await client.ask(head, head_only=True)).status == 200
    assert (await client.ask(b"GET /items HTTP/1.1\r\nHost: whatever\r\n\r\n")).status == 200
    assert shown(web) == [("CONNECT", API, 200, ""), ("GET", "/items", 200, "shop/api")]
    lines = [json.loads(line) for line in log.take().splitlines()]
    assert [(line["method"], line["authority"], line["status"]) for line in lines] == [
        ("CONNECT", API, 200),
        ("GET", "whatever", 200),
    ]


async def test_upgrade_needs_permission_like_any_request(net: Mesh) -> None:
    web, api = await two_hops(net, switching)
    api.admit(routes(match("/other", "GET")))
    client = await net.client(web.outbound)
    assert (await client.ask(get(API, "/chat", *WEBSOCKET))).status == 403


async def test_declined_upgrade_is_an_ordinary_answer(net: Mesh) -> None:
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    for _ in range(2):
        assert (await client.ask(get(API, "/", *WEBSOCKET))).body == b"app"
    assert echo.connections == 1


async def test_nobody_asked_for_another_protocol(net: Mesh) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\n"
    web, _ = await two_hops(net, Echo(answer=lambda _: answer))
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 502


async def test_h2c_cannot_be_smuggled_in(net: Mesh) -> None:
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    fields = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
    )
    assert (await client.ask(get(API, "/", *fields))).status == 200
    assert {name for name, _ in echo.seen[0].fields} & {"upgrade", "http2-settings", "connection"} == set()


async def test_connect_to_an_http_service_is_decided_per_request(net: Mesh) -> None:
    echo = Echo()
    web, api = await two_hops(net, echo, protocol=Protocol.DETECT)
    api.admit(routes(match("/items", "GET")))
    client = await net.client(web.outbound)
    answer = await client.ask(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(), head_only=True)
    assert answer.status == 200
    assert (await client.ask(b"GET /items HTTP/1.1\r\nHost: whatever\r\n\r\n")).status == 200
    assert (await client.ask(b"GET /other HTTP/1.1\r\nHost: whatever\r\n\r\n")).status == 403


async def test_connect_to_an_opaque_service(net: Mesh) -> None:
    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.write(await reader.readline())

    web, _ = await two_hops(net, greets, protocol=Protocol.TCP)
    client = await net.client(web.outbound)
    client.send(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\nearly\n".encode())
    assert (await client.receive(head_only=True)).status == 200
    assert await client.closed() == b"hello\nearly\n"


async def test_connect_outside_the_mesh(net: Mesh) -> None:
    web = await net.pod("web")
    web.admit()
    port = await net.serve("127.0.0.1", Echo("outside"))
    web.pass_through(f"127.0.0.1:{port}")
    client = await net.client(web.outbound)
    head = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    assert (await client.ask(head, head_only=True)).status == 200
    assert (await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"outside"


@pytest.mark.parametrize("target", ["api.shop", "api.shop:0", "/", "http://api.shop:80/", "me@api:80"])
async def test_connect_to_nowhere(net: Mesh, target: str) -> None:
    web = await net.pod("web")
    client = await net.client(web.outbound)
    answer = await client.ask(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.status == 400
    assert await client.closed() == b""


async def test_the_proxy_cannot_be_asked_for_itself(net: Mesh) -> None:
    web = await net.pod("web")
    host = f"{web.outbound[0]}:{web.outbound[1]}"
    web.pass_through(host)
    client = await net.client(web.outbound)
    answer = await client.ask(get(host))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (400, "loop")
    client.send(f"CONNECT {host} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    with pytest.raises(ConnectionResetError):
        await client.closed()


async def test_connect_is_not_for_apps(net: Mesh) -> None:
    web = await net.pod("web", original=lambda _: ("10.96.0.7", 8080))
    web.reach("10.96.0.7:8080", [])
    client = await net.client(web.outbound)
    answer = await client.ask(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
    assert answer.status == 501


async def test_tunnel_ends_with_its_server(net: Mesh) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbye"
        )

    web, api = await two_hops(net, handler)
    client = await net.client(web.outbound)
    client.send(get(API, "/", *WEBSOCKET))
    assert (await client.receive()).status == 101
    assert await client.closed() == b"bye"
    client.close()
    await until(lambda: web.running.connections == api.running.connections == 0, DEADLINE)
