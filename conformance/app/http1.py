"""HTTP/1.1 messages over asyncio streams (RFC 9112), as much as a test application needs.

Heads and bodies are bounded. Every fault of the peer is a `BadMessageError`; a peer that goes away is
an `EOFError` or an `OSError`. This is a test tool, not the data plane's parser: it is strict about
what it needs and knows no exotic framing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Bytes of start line and headers together."""
MAX_BODY: Final = 32 * 1024 * 1024
"""Bytes of one body."""

Headers = tuple[tuple[str, str], ...]
"""(lower-case name, value), in the order received."""


class BadMessageError(ValueError):
    """The peer sent something that is not HTTP/1.1 as we read it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole."""

    method: str
    target: str
    """As on the request line: origin form, absolute form or authority form."""
    headers: Headers = ()
    body: bytes = b""
    version: str = "HTTP/1.1"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        return find(self.headers, name)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. `chunks` > 0: the body is sent chunked in that many pieces."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    chunks: int = 0
    reason: str = ""
    trailers: Headers = field(default=())

    def header(self, name: str) -> str | None:
        return find(self.headers, name)


def find(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    """The first value of header `name` (lower case), or None."""
    return next((value for key, value in headers if key == name), None)


def wants_close(version: str, headers: Headers) -> bool:
    """Whether the connection ends after this message (RFC 9112 §9.3)."""
    options = (find(headers, "connection") or "").lower()
    if "close" in options:
        return True
    return version == "HTTP/1.0" and "keep-alive" not in options


async def read_request_head(reader: asyncio.StreamReader) -> Request | None:
    """Read one request head; None when the peer closed between requests. The body is still unread.

    The preface of HTTP/2 reads as a request `PRI *` of version HTTP/2.0.
    """
    head = await _read_head(reader)
    if head is None:
        return None
    start, headers = _parse_head(head)
    parts = start.split(" ")
    if parts == ["PRI", "*", "HTTP/2.0"]:  # the beginning of HTTP/2 (RFC 9113 §3.4)
        return Request("PRI", "*", headers, b"", "HTTP/2.0")
    if len(parts) != 3 or not all(parts) or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadMessageError(f"not an HTTP/1.1 request line: {start[:80]!r}")
    return Request(parts[0], parts[1], headers, b"", parts[2])


async def read_request_body(reader: asyncio.StreamReader, head: Request) -> bytes:
    """Read the body that belongs to `head` (chunked or Content-Length; otherwise empty)."""
    body, _ = await _read_framed(reader, head.headers)
    return body or b""


async def read_response(reader: asyncio.StreamReader, method: str) -> tuple[Response, bool]:
    """Read one final response to a request with `method`: the response, and whether to close after it.

    Interim 1xx responses are skipped, except 101, which is final. Raises EOFError if the peer closed
    before the first byte (a stale kept-alive connection), BadMessageError or IncompleteReadError later.
    """
    while True:
        head = await _read_head(reader)
        if head is None:
            raise EOFError("closed before the response")
        start, headers = _parse_head(head)
        version, _, rest = start.partition(" ")
        code, _, reason = rest.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) != 3 or not code.isdigit():
            raise BadMessageError(f"not an HTTP/1.1 status line: {start[:80]!r}")
        status = int(code)
        if status >= 200 or status == 101:
            break
    close = wants_close(version, headers)
    if method == "HEAD" or status in (101, 204, 304) or (method == "CONNECT" and status < 300):
        return Response(status, headers, reason=reason), close
    body, trailers = await _read_framed(reader, headers)
    if body is None:  # neither chunked nor Content-Length: the body ends with the connection
        body, close = await _read_to_end(reader), True
    return Response(status, headers, body, reason=reason, trailers=trailers), close


def encode_request(request: Request) -> bytes:
    """The request on the wire; the caller sets Host. Content-Length is added for a body."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.body and find(request.headers, "content-length") is None:
        lines.append(f"content-length: {len(request.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + request.body


def encode_response(response: Response, *, head_only: bool = False, close: bool = False) -> bytes:
    """The response on the wire. `head_only`: the answer to HEAD, framing headers but no body."""
    reason = response.reason or _phrase(response.status)
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    bodiless = response.status < 200 or response.status in (204, 304)
    if not bodiless:
        lines.append(
            "transfer-encoding: chunked" if response.chunks else f"content-length: {len(response.body)}"
        )
    if close:
        lines.append("connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if head_only or bodiless:
        return head
    return head + (_chunked(response) if response.chunks else response.body)


def _chunked(response: Response) -> bytes:
    size = max(1, -(-len(response.body) // response.chunks))
    pieces = [response.body[at : at + size] for at in range(0, len(response.body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    trailers = "".join(f"{name}: {value}\r\n" for name, value in response.trailers)
    return framed + b"0\r\n" + trailers.encode("latin-1") + b"\r\n"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    except asyncio.LimitOverrunError:
        raise BadMessageError(f"head larger than {MAX_HEAD} bytes") from None
    return head[:-4]


def _parse_head(head: bytes) -> tuple[str, Headers]:
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadMessageError(f"not a header line: {line[:80]!r}")
        headers.append((name.lower(), value.strip(" \t")))
    return start, tuple(headers)


async def _read_framed(reader: asyncio.StreamReader, headers: Headers) -> tuple[bytes | None, Headers]:
    if (find(headers, "transfer-encoding") or "").lower().endswith("chunked"):
        return await _read_chunked(reader)
    text = find(headers, "content-length")
    if text is None:
        return None, ()
    if not (text.isascii() and text.isdigit()):
        raise BadMessageError(f"content-length is not a number: {text[:20]!r}")
    length = int(text)
    if length > MAX_BODY:
        raise BadMessageError(f"body larger than {MAX_BODY} bytes")
    return await reader.readexactly(length), ()


async def _read_chunked(reader: asyncio.StreamReader) -> tuple[bytes, Headers]:
    pieces: list[bytes] = []
    total = 0
    while True:
        size_line = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip()
        try:
            size = int(size_line, 16)
        except ValueError:
            raise BadMessageError(f"not a chunk size: {size_line[:20]!r}") from None
        total += size
        if size < 0 or total > MAX_BODY:
            raise BadMessageError(f"body larger than {MAX_BODY} bytes")
        if size == 0:
            return b"".join(pieces), await _read_trailers(reader)
        pieces.append(await reader.readexactly(size))
        if await reader.readexactly(2) != b"\r\n":
            raise BadMessageError("chunk does not end with CRLF")


async def _read_trailers(reader: asyncio.StreamReader) -> Headers:
    block = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        if line == b"\r\n":
            return _parse_head(b"-\r\n" + block[:-2])[1] if block else ()
        block += line
        if len(block) > MAX_HEAD:
            raise BadMessageError(f"trailers larger than {MAX_HEAD} bytes")


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while piece := await reader.read(65536):
        total += len(piece)
        if total > MAX_BODY:
            raise BadMessageError(f"body larger than {MAX_BODY} bytes")
        pieces.append(piece)
    return b"".join(pieces)
