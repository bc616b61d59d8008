"""Every trick that has made two HTTP/1.1 parsers disagree, by family (RFC 9112 §11.2).

A case is refused, which means: answered with an error, the connection closed, and no byte of what
came behind it believed by anybody; or it is passed on in one form that leaves nothing to interpret,
which is then written beside it. Each case runs on a connection of its own, through two sidecars.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.dataplane.serve.http import Echo, Message
from tests.dataplane.serve.mesh import API, Mesh, Pod, two_hops

H = f"Host: {API}\r\n"
POST = f"POST / HTTP/1.1\r\n{H}"
GET = f"GET / HTTP/1.1\r\n{H}"
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"
END = "0\r\n\r\n"
TRAP = f"GET /trap HTTP/1.1\r\n{H}\r\n"
"""Comes behind every case: whoever answers it has found another end of the request than we did."""


def te(value: str) -> str:
    return f"{POST}Transfer-Encoding:{value}\r\n\r\n{END}"


def cl(value: str, body: str = "") -> str:
    return f"{POST}Content-Length:{value}\r\n\r\n{body}"


def field(line: str) -> str:
    return f"{GET}{line}\r\n\r\n"


def line(text: str) -> str:
    return f"{text}\r\n{H}\r\n"


def host(*values: str, target: str = "/") -> str:
    return f"GET {target} HTTP/1.1\r\n" + "".join(f"Host:{value}\r\n" for value in values) + "\r\n"


def trailer(text: str) -> str:
    return f"{CHUNKED}1\r\na\r\n0\r\n{text}\r\n\r\n"


REFUSED: dict[str, dict[str, str]] = {
    "content-length and transfer-encoding": {
        "CL.TE": f"{POST}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n{END}G",
        "TE.CL": f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST\r\n{END}",
        "CL 0 with TE": f"{POST}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{END}",
        "TE with CL 0": f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{END}",
        "CL with TE identity": f"{POST}Content-Length: 1\r\nTransfer-Encoding: identity\r\n\r\na",
        "CL with empty TE": f"{POST}Content-Length: 1\r\nTransfer-Encoding:\r\n\r\na",
        "CL nominated as hop-by-hop with TE": (
            f"{POST}Connection: content-length\r\nContent-Length: 1\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n{END}"
        ),
        "TE nominated as hop-by-hop with CL": (
            f"{POST}Connection: transfer-encoding\r\nContent-Length: 1\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n{END}"
        ),
        "CL.TE in a GET": f"{GET}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{END}",
        "CL.TE in odd letters": f"{POST}cONTENT-lENGTH: 5\r\ntRANSFER-eNCODING: cHUNKED\r\n\r\n{END}",
    },
    "content-length": {
        "two": f"{POST}Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "two, other order": f"{POST}Content-Length: 44\r\nContent-Length: 0\r\n\r\n",
        "the same twice": f"{POST}Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "apart": f"{POST}Content-Length: 0\r\nX: y\r\ncontent-length: 5\r\n\r\n",
        "a list": cl(" 1, 1", "a"),
        "a list that differs": cl(" 0, 5"),
        "empty": cl(""),
        "white space only": cl("  "),
        "plus": cl(" +1", "a"),
        "minus": cl(" -1", "a"),
        "minus zero": cl(" -0"),
        "hexadecimal": cl(" 0x1", "a"),
        "exponent": cl(" 1e0", "a"),
        "fraction": cl(" 1.0", "a"),
        "underscore": cl(" 1_0", "a" * 10),
        "space inside": cl(" 1 0", "a"),
        "quoted": cl(' "1"', "a"),
        "overflow of 64 bits": cl(" 18446744073709551617", "a"),
        "overflow with zeros": cl(" 00000000000000000001", "a"),
        "other digits": cl(" \xb2", "a"),
        "vertical tab": cl(" \x0b1", "a"),
        "form feed": cl(" 1\x0c", "a"),
        "semicolon": cl(" 1;a", "a"),
        "letters": cl(" ten", "a"),
    },
    "transfer-encoding": {
        "two": f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n{END}",
        "two, other order": f"{POST}Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n{END}",
        "chunked twice": f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{END}",
        "chunked in a list twice": te(" chunked, chunked"),
        "identity": te(" identity"),
        "identity first": te(" identity, chunked"),
        "chunked first": te(" chunked, identity"),
        "chunked before gzip": te(" chunked, gzip"),
        "gzip": te(" gzip"),
        "gzip before chunked": te(" gzip, chunked"),
        "empty": te(""),
        "comma": te(" ,"),
        "xchunked": te(" xchunked"),
        "chunkedx": te(" chunkedx"),
        "chunk": te(" chunk"),
        "quoted": te(' "chunked"'),
        "apostrophes": te(" 'chunked'"),
        "parameter": te(" chunked;q=1"),
        "vertical tab before": te(" \x0bchunked"),
        "form feed behind": te(" chunked\x0c"),
        "no-break space": te(" \xa0chunked"),
        "NUL behind": te(" chunked\0"),
        "space inside": te(" chun ked"),
        "bare CR behind": te(" chunked\r"),
        "bare LF before": te("\n chunked"),
        "bare CR before": te("\r chunked"),
        "folded": te("\r\n chunked"),
        "folded with a tab": te("\r\n\tchunked"),
        "space before the colon": f"{POST}Transfer-Encoding : chunked\r\n\r\n{END}",
        "tab before the colon": f"{POST}Transfer-Encoding\t: chunked\r\n\r\n{END}",
        "NUL in the name": f"{POST}Transfer\0Encoding: chunked\r\n\r\n{END}",
        "indented as the first field": f"POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\n{H}\r\n{END}",
        "HTTP/1.0": f"POST / HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\n\r\n{END}",
        "HTTP/1.0 kept alive": (
            f"POST / HTTP/1.0\r\n{H}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{END}"
        ),
    },
    "fields": {
        "folded": field("X: a\r\n b"),
        "folded into a length": field("X: a\r\n Content-Length: 5"),
        "folded with a tab": field("X: a\r\n\tb"),
        "folded first field": f"GET / HTTP/1.1\r\n X: a\r\n{H}\r\n",
        "space before the colon": field("X : a"),
        "tab before the colon": field("X\t: a"),
        "no colon": field("X"),
        "no name": field(": a"),
        "space in the name": field("X Y: a"),
        "indented": field(" X: a"),
        "CR in the name": field("X\rY: a"),
        "NUL in the name": field("X\0: a"),
        "NUL in the value": field("X: a\0b"),
        "bell in the value": field("X: a\x07b"),
        "escape in the value": field("X: a\x1b[0m"),
        "DEL in the value": field("X: a\x7fb"),
        "bare CR in the value": field("X: a\rb"),
        "bare CR hides a field": field("X: a\rContent-Length: 5"),
        "bare LF in the value": field("X: a\nb"),
        "bare LF hides a field": field("X: a\nTransfer-Encoding: chunked"),
        "bare LF ends the last line": f"{GET}X: a\n\r\n",
        "bare LF ends the head": f"{GET}X: a\r\n\n",
        "bare LF only": GET.replace("\r\n", "\n") + "\n",
        "CR CR LF": f"{GET}X: a\r\r\n\r\n",
        "LF CR": f"{GET}X: a\n\r\n\r\n",
        "high byte in the name": field("X\xe9: a"),
        "slash in the name": field("X/Y: a"),
        "brackets in the name": field("X[0]: a"),
        "quotes in the name": field('"X": a'),
        "large": field("X: " + "a" * 70_000),
        "many": GET + "X: a\r\n" * 400 + "\r\n",
    },
    "request line": {
        "two spaces": line("GET  / HTTP/1.1"),
        "two spaces before the version": line("GET /  HTTP/1.1"),
        "space at the end": line("GET / HTTP/1.1 "),
        "space before": line(" GET / HTTP/1.1"),
        "tab": line("GET\t/\tHTTP/1.1"),
        "space in the target": line("GET /a b HTTP/1.1"),
        "bare CR": line("GET /\rHTTP/1.1"),
        "bare LF": f"GET / HTTP/1.1\n{H}\r\n",
        "NUL in the target": line("GET /\0 HTTP/1.1"),
        "NUL in the method": line("G\0T / HTTP/1.1"),
        "control in the target": line("GET /\x1f HTTP/1.1"),
        "DEL in the target": line("GET /\x7f HTTP/1.1"),
        "fragment": line("GET /#a HTTP/1.1"),
        "no version": line("GET /"),
        "no target": line("GET HTTP/1.1"),
        "HTTP/0.9": line("GET / HTTP/0.9"),
        "HTTP/1.2": line("GET / HTTP/1.2"),
        "HTTP/2.0": line("GET / HTTP/2.0"),
        "HTTP/1.10": line("GET / HTTP/1.10"),
        "HTTP/01.1": line("GET / HTTP/01.1"),
        "HTTP/1": line("GET / HTTP/1"),
        "http/1.1": line("GET / http/1.1"),
        "version with a space": line("GET / HTTP/1. 1"),
        "lower-case method": line("get / HTTP/1.1"),
        "unknown method": line("BREW / HTTP/1.1"),
        "method with a colon": line("GET: / HTTP/1.1"),
        "the preface of HTTP/2, not quite": "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "TLS": "\x16\x03\x01\x02\0\x01\0\r\n\r\n",
        "many empty lines": "\r\n" * 20 + GET + "\r\n",
    },
    "target and host": {
        "no host": "GET / HTTP/1.1\r\n\r\n",
        "two hosts": host(API, "other"),
        "the same host twice": host(API, API),
        "joined hosts": host(f"{API}, other"),
        "empty host": host(""),
        "host with a path": host(f"{API}/x"),
        "host with user information": host(f"me@{API}"),
        "host with a space": host("api shop"),
        "host with a scheme": host(f"http://{API}"),
        "host with a query": host(f"{API}?x"),
        "host with a high byte": host("api\xe9.shop"),
        "port out of range": host("api.shop:99999"),
        "port zero": host("api.shop:0"),
        "port that is no number": host("api.shop:8080x"),
        "two ports": host("api.shop:80:8080"),
        "absolute target, other host": host("other", target=f"http://{API}/"),
        "absolute target, other port": host("api.shop:80", target=f"http://{API}/"),
        "absolute target without host": f"GET http://{API}/ HTTP/1.1\r\n\r\n",
        "absolute target, two hosts": host(API, "other", target=f"http://{API}/"),
        "absolute target without authority": host(API, target="http:///x"),
        "other scheme": host(API, target=f"ftp://{API}/"),
        "https": host(API, target=f"https://{API}/"),
        "user information": host(API, target=f"http://me@{API}/"),
        "backslash": host(API, target=f"http://{API}\\x"),
        "relative": host(API, target="x"),
        "asterisk": host(API, target="*"),
        "authority form": host(API, target=API),
        "encoded NUL": host(API, target="/%00"),
        "percent without digits": host(API, target="/%zz"),
        "percent at the end": host(API, target="/%"),
        "one digit": host(API, target="/%2"),
        "percent u": host(API, target="/%u002f"),
    },
    "chunks": {
        "no digits": CHUNKED + "\r\n",
        "no hexadecimal": CHUNKED + "g\r\n",
        "0x": CHUNKED + "0x1\r\na\r\n" + END,
        "plus": CHUNKED + "+1\r\na\r\n" + END,
        "minus": CHUNKED + "-1\r\na\r\n" + END,
        "space before": CHUNKED + " 1\r\na\r\n" + END,
        "space behind": CHUNKED + "1 \r\na\r\n" + END,
        "space before an extension": CHUNKED + "1 ;a\r\na\r\n" + END,
        "underscore": CHUNKED + "1_0\r\n" + "a" * 16 + "\r\n" + END,
        "comma": CHUNKED + "1,\r\na\r\n" + END,
        "overflow of 64 bits": CHUNKED + "10000000000000001\r\na\r\n" + END,
        "zeros without end": CHUNKED + "0" * 40 + "1\r\na\r\n" + END,
        "bare LF behind the size": CHUNKED + "1\na\r\n" + END,
        "bare CR behind the size": CHUNKED + "1\ra\r\n" + END,
        "CR CR LF behind the size": CHUNKED + "1\r\r\na\r\n" + END,
        "bare LF in an extension": CHUNKED + "1;\na\r\n" + END,
        "bare CR in an extension": CHUNKED + "1;a\rb\r\na\r\n" + END,
        "NUL in an extension": CHUNKED + "1;\0\r\na\r\n" + END,
        "line end in a quoted extension": CHUNKED + '1;a="\n"\r\na\r\n' + END,
        "endless extension": CHUNKED + "1;" + "a" * 300 + "\r\na\r\n" + END,
        "longer than its size": CHUNKED + "1\r\nab\r\n" + END,
        "no line end behind it": CHUNKED + "1\r\naXX" + END,
        "bare LF behind it": CHUNKED + "1\r\na\n" + END,
        "two characters instead of a line end": CHUNKED + "1\r\naG\r\n" + END,
        "bare LF at the end": CHUNKED + "0\r\n\n",
        "size of a negative number": CHUNKED + "ffffffffffffffff\r\na\r\n" + END,
    },
    "trailers": {
        "no colon": trailer("x"),
        "folded": trailer("A: b\r\n c"),
        "indented": trailer(" A: b"),
        "space before the colon": trailer("A : b"),
        "NUL": trailer("A: \0"),
        "bare LF": trailer("A: b\nC: d"),
        "bare CR": trailer("A: b\rC: d"),
        "content-length": trailer("Content-Length: 5"),
        "transfer-encoding": trailer("Transfer-Encoding: chunked"),
        "host": trailer("Host: other"),
        "connection": trailer("Connection: close"),
        "authorization": trailer("Authorization: Basic YTpi"),
        "identity of the caller": trailer("X-Forwarded-Client-Cert: URI=spiffe://a/b"),
        "identity of the caller, underscored": trailer("X_Forwarded-Client_Cert: URI=spiffe://a/b"),
        "too large": trailer("A: " + "b" * 9000),
        "too many": trailer("\r\n".join(["A: b"] * 3000)),
    },
}

SAFE: dict[str, tuple[str, str]] = {
    "absolute form": (host(API, target=f"http://{API}/a"), "GET /a HTTP/1.1"),
    "absolute form in odd letters": (host(API, target="HTTP://API.shop:8080/a"), "GET /a HTTP/1.1"),
    "absolute form without a path": (host(API, target=f"http://{API}?q"), "GET /?q HTTP/1.1"),
    "asterisk of OPTIONS": (f"OPTIONS * HTTP/1.1\r\n{H}\r\n", "OPTIONS * HTTP/1.1"),
    "one empty line": ("\r\n" + GET + "\r\n", "GET / HTTP/1.1"),
    "length with zeros": (cl(" 0001", "a"), "POST / HTTP/1.1"),
    "length in tabs": (cl("\t1\t", "a"), "POST / HTTP/1.1"),
    "length of a GET": (f"{GET}Content-Length: 2\r\n\r\nab", "GET / HTTP/1.1"),
    "coding in odd letters": (te(" ChUnKeD"), "POST / HTTP/1.1"),
    "coding in tabs": (te("\tchunked\t"), "POST / HTTP/1.1"),
    "extension": (CHUNKED + "1;a=b\r\na\r\n" + END, "POST / HTTP/1.1"),
    "capital size": (CHUNKED + "A\r\n" + "a" * 10 + "\r\n" + END, "POST / HTTP/1.1"),
    "last chunk of zeros": (CHUNKED + "000\r\n\r\n", "POST / HTTP/1.1"),
    "trailer": (trailer("X-Sum: 1"), "POST / HTTP/1.1"),
    "underscored lookalikes": (
        f"{GET}Content_Length: 9\r\nTransfer_Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1",
    ),
    "connection nominates length": (
        f"{POST}Connection: content-length\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1",
    ),
    "upgrade to HTTP/2": (
        f"{GET}Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n",
        "GET / HTTP/1.1",
    ),
    "expectation": (f"{POST}Expect: 100-continue\r\nContent-Length: 1\r\n\r\na", "POST / HTTP/1.1"),
    "old version": (f"GET / HTTP/1.0\r\n{H}Connection: keep-alive\r\n\r\n", "GET / HTTP/1.1"),
    "encoded slash": (host(API, target="/a%2fb"), "GET /a%2fb HTTP/1.1"),
    "encoded slash and dots": (host(API, target="/a/..%2fb"), "GET /a/..%2fb HTTP/1.1"),
    "dot segments": (host(API, target="/public/../secret"), "GET /secret HTTP/1.1"),
    "encoded dot segments": (host(API, target="/public/%2e%2E/secret"), "GET /secret HTTP/1.1"),
    "dot segments over the root": (host(API, target="/../../secret"), "GET /secret HTTP/1.1"),
    "single dots": (host(API, target="/./a/./b"), "GET /a/b HTTP/1.1"),
    "slashes": (host(API, target="//a///b"), "GET /a/b HTTP/1.1"),
    "two slashes are no authority": (host(API, target="//other/a"), "GET /other/a HTTP/1.1"),
    "double encoding": (host(API, target="/%252e%252e/a"), "GET /%252e%252e/a HTTP/1.1"),
    "double encoded slash": (host(API, target="/a%252fb"), "GET /a%252fb HTTP/1.1"),
    "encoded letters": (host(API, target="/%61%64min"), "GET /admin HTTP/1.1"),
    "overlong dot": (host(API, target="/%c0%ae%c0%ae/a"), "GET /%c0%ae%c0%ae/a HTTP/1.1"),
    "overlong slash": (host(API, target="/a%c0%afb"), "GET /a%c0%afb HTTP/1.1"),
    "raw overlong slash": (host(API, target="/a\xc0\xafb"), "GET /a%C0%AFb HTTP/1.1"),
    "backslash": (host(API, target="/a\\..\\b"), "GET /a\\..\\b HTTP/1.1"),
    "path parameter": (host(API, target="/a;/../b"), "GET /b HTTP/1.1"),
    "dots in the query": (host(API, target="/a?x=/../b"), "GET /a?x=/../b HTTP/1.1"),
}


def test_there_are_enough_cases() -> None:
    assert sum(map(len, REFUSED.values())) >= 120
    assert len(SAFE) >= 30


async def ask(net: Mesh, web: Pod, request: str) -> tuple[int, bytes]:
    """(status of the first answer or 0, everything up to the end of the connection)."""
    client = await net.client(web.outbound)
    client.send((request + TRAP).encode("latin-1"))
    try:
        data = await client.closed()
    except ConnectionResetError:  # the rest of a large request was not wanted
        return 0, b""
    words = data.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 else 0), data


@pytest.mark.parametrize("family", REFUSED)
async def test_refused(net: Mesh, family: str) -> None:
    echo = Echo()
    web, _ = await two_hops(net, echo)
    wrong = []
    for name, request in REFUSED[family].items():
        before = sum(web.count("outbound").values())
        status, data = await ask(net, web, request)
        if (
            status not in (400, 431, 501, 505)
            or data.count(b"\r\nx-smi-mesh-reason: ") != 1
            or b"\r\nconnection: close\r\n" not in data
            or sum(web.count("outbound").values()) != before + 1
        ):
            wrong.append((name, status, data[:200]))
    assert wrong == []
    assert [message.start for message in echo.seen] == []


STATUS = {
    # No trick about where a message ends, and a status of their own in the RFCs:
    # methods (RFC 9110 §9.1; letters count, so that `get` is one nobody knows),
    "unknown method": 501,
    "lower-case method": 501,
    # versions (RFC 9110 §15.6.6),
    "HTTP/0.9": 505,
    "HTTP/1.2": 505,
    "HTTP/2.0": 505,
    "the preface of HTTP/2, not quite": 505,
    # size (RFC 6585 §5).
    "large": 431,
    "many": 431,
}


async def test_status(net: Mesh) -> None:
    """400, but for what has a status of its own."""
    web, _ = await two_hops(net, Echo())
    found = {}
    for family in REFUSED.values():
        for name, request in family.items():
            status, _data = await ask(net, web, request)
            if status != 400:
                found[name] = status
    assert found == STATUS


async def test_passed_on_in_one_form(net: Mesh) -> None:
    """What the server sees is what was authorised, and what is behind it is a request of its own."""
    seen: list[Message] = []
    echo = Echo()
    echo.seen = seen
    web, _ = await two_hops(net, echo)
    wrong = []
    for name, (request, start) in SAFE.items():
        seen.clear()
        client = await net.client(web.outbound)
        client.send((request + TRAP).encode("latin-1"))
        if "HTTP/1.0" in request:
            client.writer.write_eof()
        answers = [await client.receive(), await client.receive()]
        lines = [message.start for message in seen]
        if lines != [start, "GET /trap HTTP/1.1"] or any(answer.status != 200 for answer in answers):
            wrong.append((name, lines))
        framing = [key for key, _ in seen[0].fields if key in ("content-length", "transfer-encoding", "host")]
        if len(framing) > 2 or framing.count("host") != 1:
            wrong.append((name, framing))
        client.close()
    assert wrong == []


async def test_nothing_is_read_twice(net: Mesh) -> None:
    """However the bytes of a case arrive, it is refused."""
    web, _ = await two_hops(net, Echo())
    for family in ("content-length and transfer-encoding", "chunks", "trailers"):
        for name, request in REFUSED[family].items():
            if len(request) > 400:
                continue
            client = await net.client(web.outbound)
            data = request.encode("latin-1")
            for at in range(0, len(data), 29):
                client.send(data[at : at + 29])
                await asyncio.sleep(0)
            assert (await client.receive()).status in (400, 501), name
            client.reset()
