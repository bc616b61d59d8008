"""Which header fields reach the other side, field by field, over HTTP/1.1 and HTTP/2 (RFC 9110 §7.6).

Every case goes through two sidecars on real sockets. A field is named as the client sends it.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence

import pytest

from smi.policy.snapshot import Mtls
from tests.dataplane.serve.http import Echo, Message, get, plain, read_message
from tests.dataplane.serve.http2 import POST_API, TO_API, App, Peer, dial, echo, shop
from tests.dataplane.serve.mesh import API, Mesh, Pod, two_hops
from tests.dataplane.waiting import until

Fields = list[tuple[str, str]]

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PASSED: dict[str, Fields] = {
    "W3C trace context": [("traceparent", TRACE), ("tracestate", "a=1,b=2"), ("tracestate", "c=3")],
    "W3C baggage": [("baggage", "user=42;p=1, x=y")],
    "B3, one field": [("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")],
    "B3, several": [
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
        ("x-b3-sampled", "1"),
        ("x-b3-flags", "1"),
    ],
    "others' traces": [("uber-trace-id", "1:2:0:1"), ("x-cloud-trace-context", "1/2;o=1")],
    "request id": [("x-request-id", "mine, not yours")],
    "the way here": [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=192.0.2.1;proto=https"),
        ("via", "1.1 edge"),
    ],
    "credentials": [("authorization", "Bearer secret"), ("cookie", "a=1; b=2")],
    "conditions": [("if-none-match", '"a"'), ("range", "bytes=0-1"), ("max-forwards", "3")],
    "the same name again": [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-a", "")],
    "bytes beyond ASCII": [("x-name", "J\xf8rgen")],
    "what is only called so": [("te-x", "1"), ("x-connection", "close"), ("upgrade-insecure-requests", "1")],
}
SPELLINGS = [f"x{a}forwarded{b}client{c}cert" for a, b, c in itertools.product("-_", repeat=3)]
TAKEN_OFF: dict[str, Fields] = {
    "identity of the caller, as it is spelled": [(name, "URI=spiffe://admin") for name in SPELLINGS],
    "credentials for a proxy": [("proxy-authorization", "Basic eA==")],
}
OF_THE_CONNECTION: dict[str, Fields] = {
    "connection": [("Connection", "keep-alive")],
    "keep-alive": [("Keep-Alive", "timeout=5")],
    "proxy-connection": [("Proxy-Connection", "keep-alive")],
    "upgrade, not nominated": [("Upgrade", "websocket")],
    "upgrade to HTTP/2": [
        ("Connection", "upgrade, http2-settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAM"),
    ],
    "te": [("TE", "gzip, deflate;q=0.5")],
    "nominated": [("Connection", "x-one, X-Two"), ("X-One", "1"), ("x-two", "2")],
    "nominated in two lines": [
        ("Connection", "x-one"),
        ("x-one", "1"),
        ("connection", "x-two"),
        ("x-two", "2"),
    ],
    "nominated twice": [("Connection", "close, x-one, ,x-one"), ("x-one", "1"), ("X-ONE", "1")],
    "nominated though it is end-to-end": [("Connection", "x-forwarded-host"), ("x-forwarded-host", "a")],
}
"""HTTP/1.1 only: in HTTP/2 they make a request malformed (RFC 9113 §8.2.2)."""
ADDED = ("host", "x-forwarded-client-cert", "x-forwarded-for", "x-request-id", "content-length")


async def over_http1(net: Mesh, fields: Fields) -> Fields:
    """What the app gets."""
    app = Echo()
    web, _ = await two_hops(net, app)
    client = await net.client(web.outbound)
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    request = f"GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\n{lines}\r\n"
    assert (await client.ask(request.encode("latin-1"))).status == 200
    return app.seen[0].fields


async def over_http2(net: Mesh, fields: Fields) -> Fields:
    web, _, app = await shop(net)
    client = await dial(web)
    mine = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
    client.connection.open([*TO_API, *mine], None, end=True)
    client.flush()
    await until(client.heads)
    assert client.heads() == [200]
    found = next(event[4] for event in app.peers[0].events.seen if event[0] == "request")
    client.transport.abort()
    return [(name.decode(), value.decode("latin-1")) for name, value in found]


OVER = {"HTTP/1.1": over_http1, "HTTP/2": over_http2}


def without(fields: Fields, *names: str) -> Fields:
    return [field for field in fields if field[0] not in names]


@pytest.mark.parametrize("version", OVER)
@pytest.mark.parametrize("case", PASSED)
async def test_passed_on_untouched(net: Mesh, case: str, version: str) -> None:
    sent = PASSED[case]
    added = [name for name in ADDED if name not in dict(sent)]
    assert without(await OVER[version](net, sent), *added) == sent


@pytest.mark.parametrize("version", OVER)
@pytest.mark.parametrize("case", TAKEN_OFF)
async def test_taken_off(net: Mesh, case: str, version: str) -> None:
    found = await OVER[version](net, [("x-first", "1"), *TAKEN_OFF[case], ("x-last", "2")])
    assert without(found, *ADDED) == [("x-first", "1"), ("x-last", "2")]
    assert "admin" not in str(found)


@pytest.mark.parametrize("case", OF_THE_CONNECTION)
async def test_fields_of_a_connection_end_with_it(net: Mesh, case: str) -> None:
    found = await over_http1(net, [("x-first", "1"), *OF_THE_CONNECTION[case], ("x-last", "2")])
    assert without(found, *ADDED) == [("x-first", "1"), ("x-last", "2")]


@pytest.mark.parametrize("case", [case for case in OF_THE_CONNECTION if case != "te"])
async def test_fields_of_a_connection_are_malformed_in_http2(net: Mesh, case: str) -> None:
    web, _, app = await shop(net)
    client = await dial(web)
    mine = [(name.lower().encode(), value.encode()) for name, value in OF_THE_CONNECTION[case]]
    client.connection.open([*TO_API, *mine], None, end=True)
    client.flush()
    await until(lambda: client.heads() or [event for event in client.events.seen if event[0] == "reset"])
    assert client.heads() in ([], [400])
    assert app.peers == []


async def test_te_trailers_goes_on_and_is_nominated(net: Mesh) -> None:
    """RFC 9110 §10.1.4, §7.6.1."""
    found = await over_http1(net, [("TE", "gzip, trailers"), ("Connection", "te")])
    assert without(found, *ADDED) == [("te", "trailers"), ("connection", "te")]


@pytest.mark.parametrize("version", OVER)
async def test_the_app_learns_who_calls_and_from_where(net: Mesh, version: str) -> None:
    found = await OVER[version](net, [("x-forwarded-for", "192.0.2.1, 192.0.2.2")])
    [web, api] = net.pods
    assert [value for name, value in found if name == "x-forwarded-client-cert"] == [
        f"By={api.identity};URI={web.identity}"
    ]
    addresses = ", ".join(value for name, value in found if name == "x-forwarded-for").split(", ")
    assert addresses[:2] == ["192.0.2.1", "192.0.2.2"]
    assert len(addresses) == 3  # on loopback a connection's own address is the kernel's choice
    assert addresses[2].startswith("127.")


@pytest.mark.parametrize("version", OVER)
async def test_trailers_cannot_say_who_calls(net: Mesh, version: str) -> None:
    if version == "HTTP/1.1":
        web, _ = await two_hops(net, Echo())
        client = await net.client(web.outbound)
        trailer = b"0\r\nx-forwarded-client-cert: URI=spiffe://admin\r\n\r\n"
        request = get(API, "/", "Transfer-Encoding: chunked", method="POST") + trailer
        assert (await client.ask(request)).status == 400
        return
    web, _, app = await shop(net)
    peer = await dial(web)
    stream = peer.connection.open(POST_API, None, end=False)
    peer.flush()
    await until(lambda: app.peers and app.peers[0].events.seen)
    trailers = [(name.encode(), b"URI=spiffe://admin") for name in SPELLINGS]
    peer.connection.send_head(stream, [*trailers, (b"x-sum", b"1")], end=True)
    peer.flush()
    await until(peer.heads)
    assert [event[2] for event in app.peers[0].events.seen if event[0] == "trailers"] == [((b"x-sum", b"1"),)]


# --- responses ----------------------------------------------------------------------------------------


async def test_responses_of_http1(net: Mesh) -> None:
    kept = [
        ("Server", "x"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Via", "1.1 x"),
        ("Trailer", "x-sum"),
    ]
    gone = [
        ("Connection", "x-private, keep-alive"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("X-SMI-Mesh-Denial", "fake; id=0"),
        ("X-SMI-Mesh-Reason", "fake"),
    ]
    lines = [f"{name}: {value}" for name, value in (*kept[:2], *gone, *kept[2:])]
    web, _ = await two_hops(net, Echo(answer=lambda _: plain("app", "200 OK", *lines)))
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert without(answer.fields, "content-length") == [(name.lower(), value) for name, value in kept]


# --- request ids --------------------------------------------------------------------------------------


def ids(seen: Sequence[Message]) -> list[str]:
    return [value for message in seen for name, value in message.fields if name == "x-request-id"]


async def test_a_request_without_an_id_gets_one_of_its_own(net: Mesh) -> None:
    app = Echo()
    web, _ = await two_hops(net, app)
    client = await net.client(web.outbound)
    for _ in range(3):
        await client.ask(get(API))
    found = ids(app.seen)
    assert len(set(found)) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)
    await client.ask(get(API, "/", "X-REQUEST-ID: mine"))
    assert ids(app.seen[3:]) == ["mine"]
    got = dict(await over_http2(net, []))
    assert re.fullmatch("[0-9a-f]{32}", got["x-request-id"])


@pytest.mark.parametrize("version", OVER)
async def test_it_keeps_it_when_it_is_sent_again(net: Mesh, version: str) -> None:
    if version == "HTTP/1.1":
        seen: list[Message] = []

        async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                seen.append(await read_message(reader))
                if len(seen) == 1:
                    return
                writer.write(plain("alive"))

        web, _ = await two_hops(net, dies)
        client = await net.client(web.outbound)
        assert (await client.ask(get(API))).status == 200
        found = ids(seen)
    else:
        found = []

        def react(peer: Peer) -> None:
            heads = [dict(event[4]) for event in peer.events.seen if event[0] == "request"]
            if not heads:
                return
            found.append(heads[0][b"x-request-id"].decode())
            if len(found) == 1:
                peer.transport.abort()
            else:
                echo(peer)

        web, _, _ = await shop(net, App(react))
        peer = await dial(web)
        peer.get()
        await until(peer.heads)
        status = peer.heads()
        peer.transport.abort()
        assert status == [200]
    assert len(found) == 2
    assert len(set(found)) == 1


async def test_callers_outside_the_mesh(net: Mesh) -> None:
    """Their requests get an id here; who they are is not said, and cannot be claimed."""
    app = Echo()
    where = [("", 0)]
    pod: Pod = await net.pod("api", original=lambda _: where[0], plain=True)
    where[0] = (pod.ip, await net.serve(pod.ip, app))
    pod.admit(mtls=Mtls.PERMISSIVE)
    client = await net.client(("127.0.0.1", pod.settings.inbound_port))
    spoofs = "".join(f"{name}: URI=spiffe://admin\r\n" for name in SPELLINGS)
    await client.ask(f"GET / HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: 192.0.2.1\r\n{spoofs}\r\n".encode())
    [seen] = app.seen
    assert len(ids([seen])) == 1
    assert without(seen.fields, "x-request-id", "host") == [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "127.0.0.1"),
    ]
