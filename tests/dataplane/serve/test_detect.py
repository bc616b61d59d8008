"""Ports of which no manifest says what is spoken: whoever speaks first decides, and nobody waits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dataplane.serve import inbound, outbound
from dataplane.serve.sniffer import Sniffer
from smi.policy.snapshot import Mtls, Protocol
from tests.dataplane.control.authority import Authority
from tests.dataplane.serve.http import Echo, plain, read_message
from tests.dataplane.serve.mesh import QUICK, Contexts, Mesh, Pod, match, routes, split
from tests.dataplane.serve.test_tcp import DB, echo, pair
from tests.dataplane.waiting import until

REQUEST = b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"
PATIENT = replace(QUICK, sniff=3600.0, head_start=0.01)
"""Whoever waits for the rest of a first line, or for a lost server, waits for ever."""


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that speaks first."""
    writer.write(b"220 ready\r\n")
    await echo(reader, writer)


@pytest.fixture
def head_starts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The head start that each connection's client was given."""
    found: list[float] = []

    class Recorded(Sniffer):
        def __init__(self, head_start: float, *rest: Any) -> None:
            found.append(head_start)
            super().__init__(head_start, *rest)

    monkeypatch.setattr(outbound, "Sniffer", Recorded)
    monkeypatch.setattr(inbound, "Sniffer", Recorded)
    return found


def tcp(pod: Pod) -> list[tuple[int, dict[str, int], int, int]]:
    """Opaque connections: (opened, closed by reason, bytes sent, bytes received)."""
    return [(one.opened, one.closed, one.sent, one.received) for one in pod.telemetry._tcp.values()]


async def test_a_greeting_needs_no_word_of_the_client_and_no_second_wait(
    net: Mesh, head_starts: list[float]
) -> None:
    net.limits = PATIENT
    web, db = await pair(net, greets, Protocol.DETECT)
    for number in range(3):
        client = await net.client(web.outbound)
        assert await client.read(11) == b"220 ready\r\n"
        client.send(b"EHLO\r\n")
        assert await client.read(6) == b"EHLO\r\n"
        client.close()
        await until(lambda: web.running.connections == db.running.connections == 0)
        assert tcp(web) == tcp(db) == [(number + 1, {"": number + 1}, 6 * (number + 1), 17 * (number + 1))]
    assert head_starts == [0.01, 0.0, 0.0]


async def test_what_the_client_said_meanwhile_is_not_lost(net: Mesh) -> None:
    """Half a first line, that may become a request, and then the server speaks."""
    net.limits = PATIENT
    go = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await greets(reader, writer)

    web, db = await pair(net, late, Protocol.DETECT)
    client = await net.client(web.outbound)
    await until(lambda: db.running.connections)
    client.send(b"GET")
    go.set()
    assert await client.read(14) == b"220 ready\r\nGET"


async def test_a_client_that_speaks_first_is_heard_after_the_server_was_called(net: Mesh) -> None:
    net.limits = PATIENT
    web, db = await pair(net, echo, Protocol.DETECT)
    client = await net.client(web.outbound)
    await until(lambda: db.running.connections)
    client.send(b"\x00\x01binary")
    assert await client.read(8) == b"\x00\x01binary"
    assert [number for number, *_ in tcp(web)] == [1]


async def test_a_request_after_the_server_was_called_is_still_a_request(
    net: Mesh, head_starts: list[float]
) -> None:
    net.limits = PATIENT
    app = Echo()
    web, db = await pair(net, app, Protocol.DETECT)
    client = await net.client(web.outbound)
    await until(lambda: app.connections)  # as an opaque connection
    assert (await client.ask(REQUEST)).status == 200
    await until(lambda: app.connections == 2)
    assert tcp(web) == []
    assert web.count("outbound") == db.count("inbound") == {(200, ""): 1}
    client.close()
    await until(lambda: web.running.connections == 0)
    assert sum(load.active for load in web.loads()) == 0
    again = await net.client(web.outbound)
    assert (await again.ask(REQUEST)).status == 200
    assert head_starts == [0.01, QUICK.request_head]  # next time the client is trusted to speak


async def test_a_slow_first_line_where_requests_came_before(net: Mesh) -> None:
    net.limits = replace(QUICK, sniff=0.01)
    web, _ = await pair(net, Echo(), Protocol.DETECT)
    client = await net.client(web.outbound)
    assert (await client.ask(REQUEST)).status == 200
    slow = await net.client(web.outbound)
    slow.send(b"GE")
    ticks = 0

    def tick(_now: float) -> None:
        nonlocal ticks
        ticks += 1

    web.running._serving.registry.on_tick(tick)
    await until(lambda: ticks > 3)  # longer than a client of an unknown port would have had
    slow.send(REQUEST[2:])
    assert (await slow.receive()).status == 200
    assert tcp(web) == []


async def test_a_request_needs_no_permission_for_bytes(net: Mesh) -> None:
    """The server that was called resets an opaque connection; the client has not said what it wants."""
    net.limits = PATIENT
    web, db = await pair(net, Echo(), Protocol.DETECT)
    db.admit(routes(match("/")))
    client = await net.client(web.outbound)
    await until(lambda: db.telemetry._denials.values)
    assert (await client.ask(REQUEST)).status == 200


async def test_a_silent_client_is_told_of_a_refusal(net: Mesh) -> None:
    """S25: a reset, not a hang."""
    web, db = await pair(net, greets, Protocol.DETECT)
    db.admit()
    client = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await client.closed()
    await until(lambda: web.running.connections == db.running.connections == 0)
    web.reach(DB, [], service="shop/db", protocol=Protocol.DETECT)
    client = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await client.closed()
    assert {reason for _, closed, *_ in tcp(web) for reason in closed} == {"aborted", "no-endpoint"}


async def test_a_server_that_only_ends_its_side(net: Mesh) -> None:
    async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await reader.read()

    net.limits = PATIENT
    web, _ = await pair(net, ends, Protocol.DETECT)
    client = await net.client(web.outbound)
    assert await client.closed() == b""


async def test_a_client_that_only_ends_its_side_hears_the_greeting(net: Mesh) -> None:
    async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(b"421 bye\r\n")

    net.limits = PATIENT
    web, db = await pair(net, polite, Protocol.DETECT)
    client = await net.client(web.outbound)
    await until(lambda: db.running.connections)
    client.writer.write_eof()
    assert await client.closed() == b"421 bye\r\n"


async def test_a_client_that_goes_leaves_nothing_behind(net: Mesh) -> None:
    web, db = await pair(net, echo, Protocol.DETECT)
    client = await net.client(web.outbound)
    await until(lambda: db.running.connections)
    client.reset()
    await until(lambda: web.running.connections == db.running.connections == 0)
    assert tcp(web) == []
    assert sum(load.active for load in web.loads()) == 0


async def test_the_memory_belongs_to_a_service_and_expires(net: Mesh, head_starts: list[float]) -> None:
    net.limits = replace(PATIENT, remembered=-1.0)
    web, _ = await pair(net, greets, Protocol.DETECT)
    for _ in range(2):
        client = await net.client(web.outbound)
        assert await client.read(11) == b"220 ready\r\n"
    assert head_starts == [0.01, 0.01]
    net.limits = PATIENT
    web, _ = await pair(net, greets, Protocol.DETECT)
    endpoints = web.state.cluster("shop/db:8080")
    for service in ("shop/db", "shop/mail", "shop/db"):  # the address was given to another Service
        web.reach(DB, endpoints, service=service, protocol=Protocol.DETECT)
        client = await net.client(web.outbound)
        assert await client.read(11) == b"220 ready\r\n"
    assert head_starts[2:] == [0.01, 0.01, 0.0]


async def test_a_client_that_was_silent_for_long_is_served_by_the_config_of_the_moment(net: Mesh) -> None:
    net.limits = replace(PATIENT, head_start=3600.0)
    web, _ = await pair(net, greets, Protocol.DETECT)
    other = await net.pod("other")
    other.admit(net.anything())
    port = await net.serve(other.ip, echo)
    client = await net.client(web.outbound)
    accepted = await net.client(web.outbound)
    accepted.send(b"\0")  # the listener takes connections in order: the first one has been taken, too
    await until(lambda: tcp(web))
    web.reach(DB, [other.endpoint(port)], service="shop/other", protocol=Protocol.DETECT)
    client.send(b"\0\1")
    assert await client.read(2) == b"\0\1"
    await until(lambda: tcp(other))


async def test_a_split_counts_a_server_that_was_called_once(net: Mesh) -> None:
    """S13, S14: per connection, also when the server decides what kind of connection it is."""
    web, v1 = await pair(net, greets, Protocol.DETECT)
    v2 = await net.pod("v2")
    v2.admit(net.anything())
    port = await net.serve(v2.ip, greets)
    [first] = web.state.cluster("shop/db:8080")
    web.reach(
        DB,
        [first],
        service="shop/db",
        protocol=Protocol.DETECT,
        splits=[split("s", {"v1": 3, "v2": 1})],
        clusters={"shop/v1:8080": [first], "shop/v2:8080": [v2.endpoint(port)]},
    )
    for _ in range(20):
        client = await net.client(web.outbound)
        assert await client.read(11) == b"220 ready\r\n"
    assert [opened for opened, *_ in tcp(v1)] == [15]
    assert [opened for opened, *_ in tcp(v2)] == [5]


@pytest.mark.parametrize("first", ["server", "client", "request"])
async def test_callers_outside_the_mesh(net: Mesh, first: str, head_starts: list[float]) -> None:
    where = [("", 0)]
    net.limits = PATIENT
    pod = await net.pod("api", original=lambda _: where[0], plain=True)
    port = await net.serve(pod.ip, greets if first == "server" else Echo() if first == "request" else echo)
    where[0] = (pod.ip, port)
    pod.admit(mtls=Mtls.PERMISSIVE)
    for _ in range(2):
        client = await net.client(("127.0.0.1", pod.settings.inbound_port))
        if first == "server":
            assert await client.read(11) == b"220 ready\r\n"
        elif first == "client":
            client.send(b"\0\1")
            assert await client.read(2) == b"\0\1"
        else:
            assert (await client.ask(REQUEST)).status == 200
    assert head_starts == [0.01, 0.0 if first == "server" else 0.01]


# --- TLS that is passed on --------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [Protocol.TLS, Protocol.DETECT])
async def test_the_server_name_is_counted(
    net: Mesh, protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    """The app's own TLS, which no proxy can open."""
    caplog.set_level("DEBUG", "dataplane.tls")
    contexts = Contexts(Authority(), "db", "db-1")
    web, db = await pair(net, echo, protocol)
    server = await asyncio.start_server(echo, db.ip, 0, ssl=contexts.server_context)
    net.at_end(server.close)
    port = server.sockets[0].getsockname()[1]
    web.reach(DB, [db.endpoint(port)], service="shop/db", protocol=protocol)
    for name in ("db.shop.svc", "DB.shop.svc", "other.example"):
        client = await net.client(web.outbound, ssl=contexts.client_context, server_hostname=name)
        client.send(b"hello")
        assert await client.read(5) == b"hello"
        client.close()
    names = names_of(web)
    assert names == {("outbound", "shop/db", "db.shop.svc"): 2, ("outbound", "shop/db", "other.example"): 1}
    assert names_of(db) == {("inbound", "", "db.shop.svc"): 2, ("inbound", "", "other.example"): 1}
    assert 'server_name="other.example"} 1' in web.telemetry.render().decode()
    assert f"outbound TLS to {DB} asks for other.example" in caplog.messages


async def test_names_that_clients_make_up_do_not_make_the_proxy_grow(net: Mesh) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    hello = hello_of(context)
    web, db = await pair(net, echo, Protocol.TLS)
    for number in range(120):
        client = await net.client(web.outbound)
        client.send(hello(f"n{number}.example"))
        await client.read(1)
        client.reset()
    counted = names_of(web)
    assert (len(counted), counted[("overflow",) * 3]) == (101, 20)
    client = await net.client(web.outbound)
    client.send(b"\x16\x03\x01")  # a beginning that never goes on is passed on all the same
    assert await client.read(3) == b"\x16\x03\x01"
    await until(lambda: sum(names_of(db).values()) == 120)


def hello_of(context: ssl.SSLContext) -> Callable[[str], bytes]:
    def hello(name: str) -> bytes:
        out = ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
        return out.read()

    return hello


def names_of(pod: Pod) -> dict[tuple[str, ...], int]:
    return pod.telemetry._counters["smi_mesh_tls_passthrough_total"].values


async def test_plain_bytes_on_a_tls_port_pass(net: Mesh) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(plain("app"))

    web, _ = await pair(net, answers, Protocol.TLS)
    client = await net.client(web.outbound)
    assert (await client.ask(REQUEST)).status == 200
    assert names_of(web) == {}
