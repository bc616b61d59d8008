"""Other people's HTTP/1.1 parsers, asked how they read some bytes: h11, llhttp, aiohttp, Python's own.

Each is strict where it can be told to be. A judge gives the messages it found complete, up to the end of
the bytes or to what it refuses (`Verdict.refused`); it never raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.errors
import http.client
import io
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, cast

import h11
import httptools
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParserPy, HttpResponseParserPy


@dataclass(frozen=True)
class Asked:
    """A complete request."""

    method: bytes
    target: bytes
    host: bytes
    body: bytes


@dataclass(frozen=True)
class Answered:
    """A complete final response."""

    status: int
    body: bytes


@dataclass
class Verdict:
    messages: list[Any] = field(default_factory=list)
    refused: str = ""
    """What it says about the bytes behind `messages`; empty where there are none, or too few."""


# --- h11 -------------------------------------------------------------------------------------------


def requests_by_h11(data: bytes) -> Verdict:
    verdict = Verdict()
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
    connection.receive_data(data)
    head: Any = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                host = b",".join(value for name, value in head.headers if name == b"host")
                verdict.messages.append(Asked(head.method, head.target, host, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return verdict
                connection.start_next_cycle()
            else:
                return verdict
    except h11.RemoteProtocolError as error:
        verdict.refused = str(error)
    return verdict


def responses_by_h11(data: bytes, methods: Sequence[bytes], closed: bool) -> Verdict:
    verdict = Verdict()
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 17)
    connection.receive_data(data)
    if closed:
        connection.receive_data(b"")
    try:
        for method in methods:
            connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
            connection.send(h11.EndOfMessage())
            status, body = 0, b""
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif not isinstance(event, h11.InformationalResponse):
                    return verdict
            verdict.messages.append(Answered(status, body))
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return verdict
            connection.start_next_cycle()
        verdict.refused = "left over" if connection.trailing_data[0] else ""
    except h11.RemoteProtocolError as error:
        verdict.refused = str(error)
    return verdict


# --- llhttp ------------------------------------------------------------------------------------------


class _Notes:
    """Takes llhttp's callbacks."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.parser: Any = None
        self.url = self.host = self.body = b""

    def on_message_begin(self) -> None:
        self.url = self.host = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self.host = value.strip(b" \t")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if isinstance(self.parser, httptools.HttpRequestParser):
            self.verdict.messages.append(Asked(self.parser.get_method(), self.url, self.host, self.body))
        elif self.parser.get_status_code() >= 200:
            self.verdict.messages.append(Answered(self.parser.get_status_code(), self.body))


def requests_by_llhttp(data: bytes) -> Verdict:
    verdict = Verdict()
    while data:
        notes = _Notes(verdict)
        notes.parser = httptools.HttpRequestParser(notes)
        try:
            notes.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # this server does not: it reads on
            data = data[upgrade.args[0] :]
            continue
        except httptools.HttpParserError as error:
            verdict.refused = str(error)
        break
    return verdict


def responses_by_llhttp(data: bytes, methods: Sequence[bytes], closed: bool) -> Verdict:
    """Cannot be told of HEAD: not to be asked about that. Nor is it told of the end."""
    verdict = Verdict()
    notes = _Notes(verdict)
    notes.parser = httptools.HttpResponseParser(notes)
    try:
        notes.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        verdict.refused = "upgrade"
    except httptools.HttpParserError as error:
        verdict.refused = str(error)
    return verdict


# --- aiohttp -----------------------------------------------------------------------------------------


class _Flow:
    """What aiohttp's bodies ask of a connection."""

    _reading_paused = False

    def pause_reading(self) -> None: ...
    def resume_reading(self, resume_parser: bool = True) -> None: ...


_FLOW = cast("Any", _Flow())
_MOST = 1 << 20


def _content(payload: Any) -> bytes | None:
    """None: it is not complete."""
    if not payload.is_eof() or payload.exception() is not None:
        return None
    return b"".join(getattr(payload, "_buffer", ()))


class _Unrun:
    """A loop for what never waits."""

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> Any:
        raise AssertionError("nobody waits here")


_LOOP = cast("asyncio.AbstractEventLoop", _Unrun())


_WIDE: Final[dict[str, Any]] = {
    "limit": _MOST,
    "max_line_size": _MOST,
    "max_field_size": _MOST,
    "max_headers": 999,
}
"""Bounds that nothing here comes to."""


def _aiohttp() -> HttpRequestParserPy:
    return HttpRequestParserPy(_FLOW, _LOOP, auto_decompress=False, **_WIDE)


def requests_by_aiohttp(data: bytes) -> Verdict:
    """Its parser in Python, which shares nothing with llhttp."""
    verdict = Verdict()
    found: list[Any] = []
    upgraded = True
    try:
        while upgraded:  # this server does not: it reads on
            messages, upgraded, data = _aiohttp().feed_data(data)
            found += messages
    except HttpProcessingError as error:
        verdict.refused = f"{type(error).__name__}: {error.message}"
    for head, payload in found:
        body = _content(payload)
        if body is None:
            break
        host = ",".join(head.headers.getall("host", ()))
        verdict.messages.append(Asked(head.method.encode(), _bytes(head.path), _bytes(host), body))
    return verdict


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def responses_by_aiohttp(data: bytes, methods: Sequence[bytes], closed: bool) -> Verdict:
    """A new parser for each response, as its client has."""
    verdict = Verdict()
    for method in methods:
        parser = HttpResponseParserPy(
            _FLOW,
            _LOOP,
            **_WIDE,
            method=method.decode(),
            response_with_body=method != b"HEAD",
            read_until_eof=True,
            auto_decompress=False,
        )
        try:
            while True:
                # One response at a time: its bytes are found by giving it one more byte until it is complete.
                messages, data = _one(parser, data, closed)
                if not messages:
                    return verdict
                head, body = messages[0]
                if head.code >= 200:
                    break
        except HttpProcessingError as error:
            verdict.refused = f"{type(error).__name__}: {error.message}"
            return verdict
        if body is None:
            return verdict
        verdict.messages.append(Answered(head.code, body))
        if head.should_close and method != b"HEAD":  # it takes a length that is not there for the end
            return verdict
    verdict.refused = "left over" if data else ""
    return verdict


def _one(parser: Any, data: bytes, closed: bool) -> tuple[list[Any], bytes]:
    """The next message and its body (None: not complete), and the bytes behind them."""
    for at in range(len(data)):
        messages, _, _ = parser.feed_data(data[at : at + 1])
        if messages:
            head, payload = messages[0]
            at += 1
            while not payload.is_eof() and at < len(data):
                parser.feed_data(data[at : at + 1])
                at += 1
            if not payload.is_eof() and closed:
                with contextlib.suppress(HttpProcessingError):
                    parser.feed_eof()
            return [(head, _content(payload))], data[at:]
    return [], b""


# --- Python's own --------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """Reads heads from bytes."""

    protocol_version = "HTTP/1.1"

    def __init__(self, data: bytes) -> None:
        self.rfile = io.BufferedReader(cast("Any", io.BytesIO(data)))
        self.wfile = io.BytesIO()  # type: ignore[assignment]  # the handler asks for one that it can write to
        self.client_address = ("", 0)
        self.refused = ""

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the base's name
    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.refused = f"{code} {message}"


def requests_by_stdlib(data: bytes) -> Verdict:
    """http.server knows Content-Length only, and believes what it is told: bodies are read here."""
    verdict = Verdict()
    handler = _Handler(data)
    while True:
        handler.raw_requestline = handler.rfile.readline()
        if not handler.raw_requestline:
            return verdict
        if not handler.parse_request():
            verdict.refused = handler.refused
            return verdict
        if "transfer-encoding" in handler.headers:
            verdict.refused = "a coding that it does not know"
            return verdict
        length = int(handler.headers.get("content-length", "0"))
        body = handler.rfile.read(min(length, len(data)))
        if len(body) < length:
            return verdict
        host = ",".join(handler.headers.get_all("host", ()))
        target = handler.requestline.split(" ")[1]
        verdict.messages.append(
            Asked(handler.command.encode(), target.encode("latin-1"), host.encode("latin-1"), body)
        )


class _Socket:
    """What http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, _mode: str) -> Any:
        return _Shared(self._file)


class _Shared:
    """A file that several responses are read from."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None: ...
    def flush(self) -> None: ...


def responses_by_stdlib(data: bytes, methods: Sequence[bytes], closed: bool) -> Verdict:
    verdict = Verdict()
    wire = _Socket(data)
    rest = wire.makefile("rb")
    try:
        for method in methods:
            while True:  # it knows one interim answer, 100; the others are answers to it
                response = http.client.HTTPResponse(cast("socket.socket", wire), method=method.decode())
                response.begin()
                if response.status >= 200:
                    break
            if response.chunked or response.length is not None or closed:
                verdict.messages.append(Answered(response.status, response.read()))
            else:
                return verdict
            if response.will_close:
                return verdict
        verdict.refused = "left over" if rest.read(1) else ""
    except http.client.RemoteDisconnected:
        pass
    except http.client.IncompleteRead:
        pass
    except (http.client.HTTPException, email.errors.MessageError, ValueError) as error:
        verdict.refused = f"{type(error).__name__}: {error}"
    return verdict


OF_REQUESTS: dict[str, Callable[[bytes], Verdict]] = {
    "h11": requests_by_h11,
    "llhttp": requests_by_llhttp,
    "aiohttp": requests_by_aiohttp,
    "http.server": requests_by_stdlib,
}
OF_RESPONSES: dict[str, Callable[[bytes, Sequence[bytes], bool], Verdict]] = {
    "h11": responses_by_h11,
    "llhttp": responses_by_llhttp,
    "aiohttp": responses_by_aiohttp,
    "http.client": responses_by_stdlib,
}
