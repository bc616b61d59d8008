"""What two servers might read differently reaches no server."""

from __future__ import annotations

import pytest

from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, Mesh, two_hops
from tests.dataplane.waiting import until

HEAD = f"POST http://{API}/ HTTP/1.1\r\nHost: {API}\r\n"
CASES = {
    "CL.TE": (HEAD + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    "TE.CL": (
        HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n",
        400,
    ),
    "TE.TE": (HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400),
    "CL.CL": (HEAD + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n", 400),
    "obs-fold": (HEAD + "X: a\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
    "bare LF": (HEAD.replace("\r\n", "\n") + "\n", 400),
    "LF at the end only": (HEAD + "X: a\n\r\n", 400),
    "space before colon": (HEAD + "Content-Length : 5\r\n\r\nhello", 400),
    "two hosts": (HEAD + "Host: other\r\n\r\n", 400),
    "target and host differ": (f"GET http://{API}/ HTTP/1.1\r\nHost: other\r\n\r\n", 400),
    "no host": (f"GET http://{API}/ HTTP/1.1\r\n\r\n", 400),
    "other scheme": (f"GET ftp://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n", 400),
    "user information": (f"GET http://me@{API}/ HTTP/1.1\r\nHost: me@{API}\r\n\r\n", 400),
    "encoded NUL": (f"GET http://{API}/%00 HTTP/1.1\r\nHost: {API}\r\n\r\n", 400),
    "bad percent": (f"GET http://{API}/%zz HTTP/1.1\r\nHost: {API}\r\n\r\n", 400),
    "asterisk without OPTIONS": (f"GET * HTTP/1.1\r\nHost: {API}\r\n\r\n", 400),
    "unknown coding": (HEAD + "Transfer-Encoding: gzip\r\n\r\n", 400),
    "coding list": (HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    "unknown method": (f"BREW http://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n", 501),
    "HTTP/3": (f"GET http://{API}/ HTTP/3.0\r\nHost: {API}\r\n\r\n", 505),
    "not HTTP": ("\x16\x03\x01 hello\r\n\r\n", 400),
    "large head": (HEAD + "X: " + "a" * 70_000 + "\r\n\r\n", 431),
    "many fields": (HEAD + "X: a\r\n" * 400 + "\r\n", 431),
}


@pytest.mark.parametrize("name", CASES)
async def test_ambiguous_requests_are_answered_and_the_connection_closed(net: Mesh, name: str) -> None:
    request, status = CASES[name]
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    client.send(request.encode("latin-1") + get(API, "/smuggled"))
    answer = await client.receive()
    assert answer.status == status
    assert answer.get("connection") == "close"
    assert answer.get("x-smi-mesh-reason")
    assert await client.closed() == b""
    assert echo.seen == []


@pytest.mark.parametrize(
    "body", [b"5\r\nhelloXX0\r\n\r\n", b"zz\r\n", b"1\r\nab\r\n", b"0\r\nHost: x\r\n\r\n"]
)
async def test_body_that_breaks_its_framing_is_cut_off(net: Mesh, body: bytes) -> None:
    """It may have begun to flow: the server sees an incomplete request and nothing behind it."""
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    client.send(get(API, "/", "Transfer-Encoding: chunked", method="POST") + body + get(API, "/smuggled"))
    answer = await client.receive()
    assert answer.status == 400
    assert await client.closed() == b""
    assert echo.seen == []


async def test_body_that_breaks_later(net: Mesh) -> None:
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    client.send(get(API, "/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n")
    await until(lambda: echo.connections)
    client.send(b"broken\r\n" + get(API, "/smuggled"))
    assert (await client.receive()).status == 400
    assert await client.closed() == b""
    assert echo.seen == []
