"""HTTP/1.1 through two proxies: what clients and servers see."""

from __future__ import annotations

import asyncio
import socket

import pytest

from dataplane.core.outcome import Outcome
from dataplane.serve.connecting import Line, MakeProtocol
from dataplane.serve.http2_client import Trunk
from dataplane.serve.http_client import Exchange, Upstream
from dataplane.serve.pool import Lane
from dataplane.serve.registry import Registry
from dataplane.wire.http1 import ResponseHead
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http import Echo, Message, get, plain, read_message
from tests.dataplane.serve.mesh import API, Mesh, two_hops
from tests.dataplane.waiting import DEADLINE, until


def post(*fields: str) -> bytes:
    """The head of a POST to the app."""
    return get(API, "/", *fields, method="POST")


async def test_request_reaches_the_app_over_two_hops(net: Mesh) -> None:
    echo = Echo()
    web, api = await two_hops(net, echo)
    client = await net.client(web.outbound)
    answer = await client.ask(get(API, "/items?x=1", "X-Tenant: acme"))
    assert (answer.status, answer.body) == (200, b"app")
    [seen] = echo.seen
    assert seen.start == "GET /items?x=1 HTTP/1.1"
    assert seen.get("host") == API
    assert seen.get("x-tenant") == "acme"
    assert seen.get("x-forwarded-client-cert") == f"By={api.identity};URI={web.identity}"
    assert web.count("outbound") == {(200, ""): 1}
    assert api.count("inbound") == {(200, ""): 1}


async def test_connections_are_kept_alive_on_every_leg(net: Mesh) -> None:
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    for number in range(5):
        answer = await client.ask(get(API, f"/{number}"))
        assert answer.get("connection") is None
    assert echo.connections == 1
    assert len(echo.seen) == 5
    assert web.count("outbound") == {(200, ""): 5}


async def test_pipelined_requests_are_answered_in_order(net: Mesh) -> None:
    """The first takes longest; the others must wait for it."""
    release = asyncio.Event()

    async def answer(message: Message) -> bytes:
        if "/0" in message.start:
            await release.wait()
        return plain(message.start.split()[1])

    echo = Echo(answer=answer)
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    client.send(b"".join(get(API, f"/{number}") for number in range(20)))
    await until(lambda: echo.seen)
    release.set()
    bodies = [(await client.receive()).body for _ in range(20)]
    assert bodies == [b"/%d" % number for number in range(20)]


async def test_head_has_a_length_but_no_body(net: Mesh) -> None:
    echo = Echo(answer=lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    answer = await client.ask(get(API, method="HEAD"), head_only=True)
    assert answer.get("content-length") == "1000"
    assert (await client.ask(get(API, method="HEAD"), head_only=True)).status == 200
    assert echo.connections == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_statuses_without_body(net: Mesh, status: str) -> None:
    web, _ = await two_hops(net, Echo(answer=lambda _: f"HTTP/1.1 {status}\r\n\r\n".encode()))
    client = await net.client(web.outbound)
    for _ in range(2):
        assert (await client.ask(get(API))).start == f"HTTP/1.1 {status}"


async def test_chunked_both_ways_with_trailers(net: Mesh) -> None:
    raw = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    echo = Echo(answer=lambda _: head + raw)
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    # one byte at a time: framing must not depend on packets
    for byte in post("Transfer-Encoding: chunked", "TE: trailers") + raw:
        client.send(bytes((byte,)))
    for message in (await client.receive(), echo.seen[0]):
        assert message.body == b"hello world"
        assert message.get("trailer:x-sum") == "11"
        assert message.raw.endswith(raw)  # as received, not re-chunked
    assert echo.seen[0].get("te") == "trailers"
    assert (await client.ask(get(API))).body == b"hello world"


async def test_body_with_length_both_ways(net: Mesh) -> None:
    payload = bytes(range(256)) * 2000
    echo = Echo(
        answer=lambda message: (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(message.body) + message.body
        )
    )
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    for _ in range(2):
        client.send(post(f"Content-Length: {len(payload)}"))
        client.send(payload)
        assert (await client.receive()).body == payload
    assert echo.connections == 1


async def test_response_that_ends_with_the_connection(net: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npart one, ")
        await writer.drain()
        writer.write(b"part two")

    web, _ = await two_hops(net, serve)
    client = await net.client(web.outbound)
    client.send(get(API))
    answer = await client.receive(until_close=True)
    assert answer.body == b"part one, part two"
    assert answer.get("connection") == "close"


async def test_100_continue_is_asked_of_the_app(net: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"expect: 100-continue" in head.lower()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(4)
        writer.write(plain(body.decode()))

    web, _ = await two_hops(net, serve)
    client = await net.client(web.outbound)
    client.send(post("Expect: 100-continue", "Content-Length: 4"))
    assert (await client.receive()).status == 100
    client.send(b"data")
    assert (await client.receive()).body == b"data"


async def test_refused_expectation_ends_the_connection(net: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(plain("too much", "413 Content Too Large"))
        await writer.drain()
        await reader.read()

    web, _ = await two_hops(net, serve)
    client = await net.client(web.outbound)
    client.send(post("Expect: 100-continue", "Content-Length: 4"))
    answer = await client.receive()
    assert (answer.status, answer.get("connection")) == (413, "close")
    assert await client.closed() == b""


async def unopened(_make: MakeProtocol) -> asyncio.Transport:
    raise AssertionError("nobody asked for a connection")


class Asked(Exchange):
    """Notes what comes of a request."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def answer(self, head: ResponseHead, data: bytes) -> None:
        self.seen += [head.status, data[head.end :]]

    def lost(self, outcome: Outcome) -> None:
        self.seen.append(outcome)

    def switched(self, head: ResponseHead, data: bytes) -> None:
        self.seen.append((head.status, data))


@pytest.mark.parametrize(
    ("left", "seen"),
    [
        (plain("too much", "413 Content Too Large"), [413, b"too much"]),
        (b"HTTP/1.1 413 Content", [Outcome.RESET]),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", [Outcome.RESET]),
    ],
    ids=["whole", "cut", "tunnel"],
)
async def test_an_answer_survives_the_reset_that_follows_it(left: bytes, seen: list[object]) -> None:
    """A server that closes with a body unread resets the connection, under a proxy that is still writing."""
    loop, asked = asyncio.get_running_loop(), Asked()
    registry = Registry(loop, 1.0)
    lane = Lane(
        unopened, None, registry, 1.0, 1, Trunk(unopened, lambda: None, registry, mesh=False), Line(9, 1.0)
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        upstream = Upstream(lane, None)
        await loop.create_connection(lambda: upstream.protocol, *server.getsockname())
        upstream.begin(asked, b"POST", post("Content-Length: 2000"), complete=False)
        accepted, _ = server.accept()  # from here on the loop does not turn until the proxy writes again
        with accepted:
            accepted.recv(1)
            accepted.sendall(left)
    upstream.send(bytes(1000), complete=False)
    upstream.send(bytes(1000), complete=True)
    await until(lambda: asked.seen)
    assert asked.seen == seen
    registry.stop()


async def test_early_hints_are_passed_on(net: Mesh) -> None:
    echo = Echo(answer=lambda _: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + plain("done"))
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).get("link") == "</a>"
    assert (await client.receive()).body == b"done"


async def test_http_1_0_client_gets_what_it_understands(net: Mesh) -> None:
    echo = Echo(
        answer=lambda _: (
            b"HTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
    )
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    client.send(f"GET http://{API}/ HTTP/1.0\r\nHost: {API}\r\nConnection: keep-alive\r\n\r\n".encode())
    answer = await client.receive(until_close=True)
    assert answer.get("transfer-encoding") is None
    assert answer.get("connection") == "close"
    assert answer.body == b"abcde"
    assert echo.seen[0].start == "GET / HTTP/1.1"


async def test_http_1_0_keep_alive(net: Mesh) -> None:
    web, _ = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    request = f"GET http://{API}/ HTTP/1.0\r\nHost: {API}\r\nConnection: keep-alive\r\n\r\n".encode()
    for _ in range(2):
        assert (await client.ask(request)).get("connection") == "keep-alive"
    answer = await client.ask(f"GET http://{API}/ HTTP/1.0\r\nHost: {API}\r\n\r\n".encode())
    assert answer.get("connection") == "close"
    assert await client.closed() == b""


async def test_http_1_0_server(net: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")

    web, _ = await two_hops(net, serve)
    client = await net.client(web.outbound)
    for _ in range(2):
        answer = await client.ask(get(API))
        assert (answer.start, answer.body) == ("HTTP/1.1 200 OK", b"ok")


async def test_client_may_close_its_side_first(net: Mesh) -> None:
    asked = asyncio.Event()
    release = asyncio.Event()

    async def answer(_: Message) -> bytes:
        asked.set()
        await release.wait()
        return plain("late")

    web, _ = await two_hops(net, Echo(answer=answer))
    client = await net.client(web.outbound)
    client.send(get(API) + get(API))
    client.writer.write_eof()
    await asked.wait()
    release.set()
    assert [(await client.receive()).body for _ in range(2)] == [b"late", b"late"]
    assert await client.closed() == b""


async def test_request_cut_off_in_its_body_is_given_up(net: Mesh) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await read_message(reader)
        finally:
            ended.set()

    web, api = await two_hops(net, serve)
    client = await net.client(web.outbound)
    client.send(post("Content-Length: 10") + b"half")
    await until(lambda: api.running.connections)
    client.close()
    async with asyncio.timeout(DEADLINE):
        await ended.wait()
    await until(lambda: web.count("outbound") == {(0, "client-gone"): 1})
    await until(lambda: web.running.connections == 0)


async def test_client_that_leaves_takes_its_request_along(net: Mesh) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        asked.set()
        await reader.read()
        ended.set()

    web, _ = await two_hops(net, serve)
    client = await net.client(web.outbound)
    client.send(get(API))
    await asked.wait()
    client.reset()
    async with asyncio.timeout(DEADLINE):
        await ended.wait()


async def test_truncated_response_is_not_passed_off_as_whole(net: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    web, _ = await two_hops(net, serve)
    client = await net.client(web.outbound)
    client.send(get(API))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.receive()
    await until(lambda: web.count("outbound") == {(200, "truncated"): 1})


async def test_hop_by_hop_fields_end_at_the_proxy(net: Mesh) -> None:
    echo = Echo(
        answer=lambda _: plain(
            "x", "200 OK", "Connection: x-private, keep-alive", "X-Private: 1", "Keep-Alive: 5"
        )
    )
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    answer = await client.ask(
        get(API, "/", "Connection: x-secret", "X-Secret: 1", "Proxy-Authorization: Basic eA==")
    )
    names = {name for name, _ in echo.seen[0].fields} | {name for name, _ in answer.fields}
    assert names & {"connection", "keep-alive", "x-private", "x-secret", "proxy-authorization"} == set()


async def test_nobody_can_claim_to_be_somebody_else(net: Mesh) -> None:
    echo = Echo(answer=lambda _: plain("x", "200 OK", "X-SMI-Mesh-Denial: fake", "x-smi-mesh-reason: fake"))
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    answer = await client.ask(
        get(
            API,
            "/",
            "X-Forwarded-Client-Cert: URI=spiffe://admin",
            "x-forwarded-client-cert: URI=spiffe://root",
        )
    )
    assert web.identity in (echo.seen[0].get("x-forwarded-client-cert") or "")
    assert "admin" not in str(echo.seen[0].fields)
    assert "fake" not in str(answer.fields)


async def test_the_app_receives_what_was_matched(net: Mesh) -> None:
    """S19."""
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    await client.ask(get(API, "/a/./b/../%41//c%2fd?q=%41/../x"))
    assert echo.seen[0].start == "GET /a/A/c%2fd?q=%41/../x HTTP/1.1"


async def test_explicit_requests_by_host_only(net: Mesh) -> None:
    """S4: an origin-form request to the listener itself is meant for its Host."""
    web, _ = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    answer = await client.ask(f"GET /items HTTP/1.1\r\nHost: {API.upper()}\r\n\r\n".encode())
    assert answer.body == b"app"


async def test_unmeshed_servers_are_spoken_to_in_plain(net: Mesh) -> None:
    web = await net.pod("web")
    echo = Echo("outside")
    port = await net.serve("127.0.0.1", echo)
    web.admit()
    web.pass_through(f"127.0.0.1:{port}")
    client = await net.client(web.outbound)
    answer = await client.ask(get(f"127.0.0.1:{port}", "/", "x-forwarded-client-cert: mine"))
    assert answer.body == b"outside"
    assert echo.seen[0].get("x-forwarded-client-cert") == "mine"


async def test_intercepted_connections_and_their_first_bytes(net: Mesh) -> None:
    """The kernel knows the destination; the manifests do not say what is spoken."""
    echo = Echo()
    web, api = await net.pod("web", original=lambda _: ("10.96.0.7", 8080)), await net.pod("api")
    port = await net.serve(api.ip, echo)
    api.admit(net.anything())
    web.admit()
    web.reach("10.96.0.7:8080", [api.endpoint(port)], protocol=Protocol.DETECT)
    client = await net.client(web.outbound)
    for part in (b"GE", b"T /items HTT", b"P/1.1\r\nHost: api\r\n", b"\r\n"):
        client.send(part)
        await asyncio.wait_for(client.writer.drain(), DEADLINE)
    assert (await client.receive()).body == b"app"
    assert echo.seen[0].get("host") == "api"
    answer = await client.ask(b"GET http://api/again HTTP/1.1\r\nHost: api\r\n\r\n")
    assert answer.body == b"app"
    assert echo.seen[1].start == "GET /again HTTP/1.1"
