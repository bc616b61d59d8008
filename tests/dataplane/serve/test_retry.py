"""Requests whose server fails: which are tried again, where, and which are not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from smi.policy.snapshot import Endpoint
from tests.dataplane.serve.http import Echo, get, plain, read_message
from tests.dataplane.serve.mesh import API, QUICK, Handler, Mesh, Pod, free_port, two_hops
from tests.dataplane.waiting import until


class Dies:
    """A server that reads whole requests and closes without an answer, `times` times; then it answers."""

    def __init__(self, times: int, after: bytes = b"") -> None:
        self.times = times
        self.after = after
        self.seen: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await read_message(reader)
            self.seen.append(message.start.split()[0])
            if len(self.seen) <= self.times:
                writer.write(self.after)
                return
            writer.write(plain("alive"))
            await writer.drain()


async def two_apps(net: Mesh, one: Handler, other: Handler) -> tuple[Pod, list[Pod]]:
    """web may call two pods of api."""
    web, apps = await net.pod("web"), [await net.pod("api"), await net.pod("api")]
    endpoints = []
    for app, handler in zip(apps, (one, other), strict=True):
        port = await net.serve(app.ip, handler)
        app.admit(net.anything())
        endpoints.append(app.endpoint(port))
    web.reach(API, endpoints)
    return web, apps


async def test_idempotent_request_is_sent_again_once(net: Mesh) -> None:
    """The app's own proxy tries once more; so does the caller's."""
    server = Dies(1)
    web, _ = await two_hops(net, server)
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).body == b"alive"
    assert server.seen == ["GET", "GET"]


async def test_requests_that_may_have_had_an_effect_are_not(net: Mesh) -> None:
    server = Dies(1)
    web, _ = await two_hops(net, server)
    client = await net.client(web.outbound)
    answer = await client.ask(get(API, "/", "Content-Length: 2", method="POST") + b"hi")
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (502, "upstream-reset")
    assert server.seen == ["POST"]


async def test_idempotent_request_with_a_small_body_is_sent_again(net: Mesh) -> None:
    server = Dies(1)
    web, _ = await two_hops(net, server)
    client = await net.client(web.outbound)
    answer = await client.ask(get(API, "/", "Content-Length: 2", method="PUT") + b"hi")
    assert answer.body == b"alive"
    assert server.seen == ["PUT", "PUT"]


@pytest.mark.parametrize(("size", "sent"), [(60_000, ["PUT", "PUT"]), (70_000, ["PUT"])])
async def test_a_body_that_comes_behind_the_head_is_kept_up_to_64_kib(
    net: Mesh, size: int, sent: list[str]
) -> None:
    server = Dies(1)
    web, api = await two_hops(net, server)
    client = await net.client(web.outbound)
    client.send(get(API, "/", f"Content-Length: {size}", method="PUT"))
    await until(lambda: api.running.connections)  # the head is on its way
    client.send(b"x" * size)
    answer = await client.receive()
    assert answer.body == b"alive" if len(sent) == 2 else answer.status == 502
    assert server.seen == sent


async def test_retries_end(net: Mesh) -> None:
    server = Dies(1000)
    web, _ = await two_hops(net, server)
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (502, "upstream-reset")
    assert len(server.seen) == 2  # there is no other endpoint: the caller's proxy does not ask again


async def test_another_pod_answers_for_one_that_dies(net: Mesh) -> None:
    dying, living = Dies(1000), Echo("living")
    web, _ = await two_apps(net, dying, living)
    client = await net.client(web.outbound)
    for _ in range(8):
        assert (await client.ask(get(API))).body == b"living"
    assert dying.seen


async def test_part_of_an_answer_is_never_retried(net: Mesh) -> None:
    server = Dies(1, after=b"HTTP/1.1 200 O")
    web, _ = await two_hops(net, server)
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 502
    assert server.seen == ["GET"]


async def test_idle_connection_that_was_closed_is_replaced(net: Mesh) -> None:
    """The app closes its end of the pooled connection at any time it likes."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_message(reader)
        writer.write(plain("once"))

    web, api = await two_hops(net, handler)
    client = await net.client(web.outbound)
    for _ in range(10):
        assert (await client.ask(get(API))).body == b"once"
    assert connections == 10
    assert set(api.count("inbound")) == {(200, "")}


async def test_connection_that_goes_stale_under_a_request(net: Mesh) -> None:
    """Closed at the very moment it is used: a second request on it is never answered."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_message(reader)
        writer.write(plain("ok"))
        await writer.drain()
        await reader.read(1)

    web, _ = await two_hops(net, handler)
    client = await net.client(web.outbound)
    for _ in range(6):
        assert (await client.ask(get(API))).body == b"ok"
    assert connections >= 6


async def test_refused_connections_go_elsewhere_whatever_the_method(net: Mesh) -> None:
    echo = Echo()
    web, api = await two_hops(net, echo)
    [good] = web.state.cluster("shop/api:8080")
    web.reach(API, [good, *(replace(good, ip=f"127.99.1.{number}") for number in range(1, 3))])
    client = await net.client(web.outbound)
    for _ in range(6):
        assert (await client.ask(get(API, method="POST"))).status == 200
    assert api.count("inbound") == {(200, ""): 6}


async def test_app_that_refuses_connections_is_said_so_and_passed_by(net: Mesh) -> None:
    """A pod whose app has gone while its proxy is still there."""
    echo = Echo("living")
    web, apps = await two_apps(net, echo, echo)
    [one, other] = web.state.cluster("shop/api:8080")
    closed = free_port()
    web.reach(API, [replace(one, port=closed), other])
    client = await net.client(web.outbound)
    for _ in range(6):
        answer = await client.ask(get(API, "/", "Content-Length: 2", method="POST") + b"hi")
        assert answer.body == b"living"
    web.reach(API, [replace(one, port=closed)])
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "connect-failed")
    assert {reason for pod in apps for _, reason in pod.count("inbound")} == {"", "connect-failed"}


async def test_nobody_can_be_reached(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    web.reach(API, [Endpoint("127.99.2.1", 80, "shop/api-1", api.identity)])
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "connect-failed")
    web.reach(API, [])
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "no-endpoint")
    assert web.count("outbound") == {(503, "connect-failed"): 1, (503, "no-endpoint"): 1}


async def test_wrong_identity_is_not_spoken_to(net: Mesh) -> None:
    echo = Echo()
    web, _ = await two_hops(net, echo)
    [good] = web.state.cluster("shop/api:8080")
    web.reach(API, [replace(good, identity=web.identity)])
    client = await net.client(web.outbound)
    answer = await client.ask(get(API, "/", "Authorization: secret"))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "wrong-peer")
    assert echo.seen == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"\x00" * 70000,
    ],
)
async def test_servers_that_make_no_sense(net: Mesh, garbage: bytes) -> None:
    web, _ = await two_hops(net, Echo(answer=lambda _: garbage))
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (502, "bad-response")


async def test_response_nobody_asked_for_answers_nobody(net: Mesh) -> None:
    """A server that sends two responses to one request must not answer the next client."""
    echo = Echo(answer=lambda message: plain(message.start.split()[1]) + plain("poison"))
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    for number in range(5):
        assert (await client.ask(get(API, f"/{number}"))).body == b"/%d" % number


async def test_too_many_requests_to_one_endpoint_are_turned_away(net: Mesh) -> None:
    release = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        await release.wait()
        writer.write(plain("late"))

    net.limits = replace(QUICK, requests_per_endpoint=2)
    web, _ = await two_hops(net, handler)
    clients = [await net.client(web.outbound) for _ in range(3)]
    for client in clients[:2]:
        client.send(get(API))
    await until(lambda: sum(load.active for load in web.loads()) == 2)
    answer = await clients[2].ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    release.set()
    for client in clients[:2]:
        assert (await client.receive()).body == b"late"
    assert sum(load.active for load in web.loads()) == 0


async def test_rotation_of_the_certificate_retires_pooled_connections(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    assert api.running.connections == 1
    for rotated in (web, api):
        rotated.contexts.rotate()
        assert (await client.ask(get(API))).status == 200
    await until(lambda: api.running.connections == 1)


async def test_idle_pooled_connections_are_closed(net: Mesh) -> None:
    net.limits = replace(QUICK, pool_idle=0.05, app_idle=0.05)
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    await until(lambda: api.running.connections == 0)
    assert (await client.ask(get(API))).status == 200
