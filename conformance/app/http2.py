"""HTTP/2 with prior knowledge, and unary gRPC on it, as much as a test application needs.

One stream is served, or asked, after the other; frames and HPACK are jh2's. Imported only when a
peer or an order speaks HTTP/2: everything else starts with the standard library alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from jh2.config import H2Configuration
from jh2.connection import H2Connection
from jh2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from jh2.exceptions import ProtocolError

from conformance.app.http1 import MAX_BODY, BadMessageError, Headers, Request, Response, find

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\n"
"""What an HTTP/1.1 reader takes for the head of a request (RFC 9113 §3.4)."""
GRPC: Final = "application/grpc"
_GRPC_PREFIX: Final = 5
"""Bytes before a gRPC message: a flag, and its length."""
_CONNECTION_HEADERS: Final = frozenset({"connection", "host", "transfer-encoding", "content-length"})
"""Headers that HTTP/2 has no place for, or that are written anew."""


@dataclass(slots=True)
class _Stream:
    headers: Headers = ()
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers = ()


class Http2:
    """One connection, as client or as server.

    Raises BadMessageError for what is not HTTP/2, EOFError when the peer has gone, and
    ConnectionResetError when it takes back a stream.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, client: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._state = H2Connection(H2Configuration(client_side=client, header_encoding="latin-1"))
        self._streams: dict[int, _Stream] = {}
        self._ended: list[int] = []
        self._state.initiate_connection()
        if not client:
            self._state.receive_data(PREFACE)

    async def ask(self, request: Request) -> Response:
        """One exchange as client. A gRPC answer's trailers are among its headers."""
        number = self._state.get_next_available_stream_id()
        self._streams[number] = _Stream()
        grpc = (find(request.headers, "content-type") or "").startswith(GRPC)
        body = _framed(request.body) if grpc else request.body
        pseudo = {
            ":method": request.method,
            ":scheme": "http",
            ":authority": find(request.headers, "host") or "",
            ":path": request.target,
        }
        await self._send(number, (*pseudo.items(), *_plain(request.headers)), body)
        while number not in self._ended:
            await self._hear()
        self._ended.remove(number)
        stream = self._streams.pop(number)
        headers = (*_plain(stream.headers), *stream.trailers)
        answer = bytes(stream.body)[_GRPC_PREFIX if grpc else 0 :]
        return Response(int(find(stream.headers, ":status") or 0), headers, answer, trailers=stream.trailers)

    async def serve(self, handler: Callable[[Request], Awaitable[Response]]) -> None:
        """Answer streams until the peer goes away (EOFError)."""
        await self._flush()
        while True:
            while not self._ended:
                await self._hear()
            number = self._ended.pop(0)
            if stream := self._streams.pop(number, None):  # else the peer took it back
                await self._answer(number, stream, handler)

    async def _answer(
        self, number: int, stream: _Stream, handler: Callable[[Request], Awaitable[Response]]
    ) -> None:
        grpc = (find(stream.headers, "content-type") or "").startswith(GRPC)
        request = Request(
            find(stream.headers, ":method") or "",
            find(stream.headers, ":path") or "",
            (("host", find(stream.headers, ":authority") or ""), *_plain(stream.headers)),
            bytes(stream.body)[_GRPC_PREFIX if grpc else 0 :],
            "HTTP/2",
        )
        response = await handler(request)
        if grpc:
            verdict = ("grpc-status", "0" if response.status == 200 else "2")
            named = [pair for pair in _plain(response.headers) if pair[0] != "content-type"]
            head = ((":status", "200"), *named, ("content-type", GRPC))
            await self._send(number, head, _framed(response.body), (verdict,))
            return
        body = b"" if request.method == "HEAD" else response.body
        head = ((":status", str(response.status)), *_plain(response.headers))
        await self._send(number, head, body, response.trailers)

    async def _send(self, number: int, head: Headers, body: bytes, trailers: Headers = ()) -> None:
        self._state.send_headers(number, list(head), end_stream=not body and not trailers)
        while body:
            room = min(self._state.local_flow_control_window(number), self._state.max_outbound_frame_size)
            if room <= 0:
                await self._hear()
                continue
            piece, body = body[:room], body[room:]
            self._state.send_data(number, piece, end_stream=not body and not trailers)
            await self._flush()
        if trailers:
            self._state.send_headers(number, list(trailers), end_stream=True)
        await self._flush()

    async def _hear(self) -> None:
        """Take in what the peer says next."""
        await self._flush()
        data = await self._reader.read(65536)
        if not data:
            raise EOFError("the HTTP/2 peer closed the connection")
        try:
            events = self._state.receive_data(data)
        except ProtocolError as error:
            raise BadMessageError(f"not HTTP/2: {error}") from None
        for event in events:
            self._note(event)
        await self._flush()

    def _note(self, event: object) -> None:
        match event:
            case RequestReceived():
                self._streams[event.stream_id] = _Stream(_pairs(event.headers))
            case ResponseReceived():
                self._streams[event.stream_id].headers = _pairs(event.headers)
            case TrailersReceived():
                self._streams[event.stream_id].trailers = _pairs(event.headers)
            case DataReceived():
                if stream := self._streams.get(event.stream_id):
                    stream.body += event.data
                    if len(stream.body) > MAX_BODY:
                        raise BadMessageError(f"body larger than {MAX_BODY} bytes")
                self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self._ended.append(event.stream_id)
            case StreamReset():
                if self._streams.pop(event.stream_id, None) and self._state.config.client_side:
                    raise ConnectionResetError(f"the stream was reset, error {event.error_code}")
            case ConnectionTerminated():
                if event.error_code:
                    raise ConnectionResetError(f"GOAWAY, error {event.error_code}")

    async def _flush(self) -> None:
        if data := self._state.data_to_send():
            self._writer.write(data)
            await self._writer.drain()


def grpc_request(request: Request) -> Request:
    """The request as a unary gRPC call: POST, with the headers that gRPC asks for."""
    names = {name for name, _ in request.headers}
    own = [pair for pair in (("content-type", GRPC), ("te", "trailers")) if pair[0] not in names]
    return replace(request, method="POST", headers=(*request.headers, *own))


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _plain(headers: Headers) -> Iterable[tuple[str, str]]:
    """Without pseudo-headers and connection headers, names in lower case."""
    for name, value in headers:
        if not name.startswith(":") and name.lower() not in _CONNECTION_HEADERS:
            yield name.lower(), value


def _pairs(headers: Iterable[tuple[str | bytes, str | bytes]]) -> Headers:
    return tuple((_text(name), _text(value)) for name, value in headers)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
