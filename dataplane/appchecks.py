"""The probes and hooks of the app's containers that the kubelet leaves to the sidecar.

The sidecar accepts every connection to a redirected port, so that a kubelet that only connects would learn
nothing of the app, and one that speaks TLS or gRPC would be refused: the injector points such probes here
(`controller.admission.checks`). What is done is what the kubelet would have done, at the same address.
Sources: core/v1 Probe and LifecycleHandler; grpc.health.v1 (health/v1/health.proto).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from dataplane.serve.sockets import stream as as_stream
from dataplane.settings import Check
from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import Fields
from dataplane.wire.http2 import BadConnection, Connection, Stream
from dataplane.wire.http2.heads import StreamRequest, StreamResponse

_MOST_LINE: Final = 16384
_MOST_ANSWER: Final = 65536
_AGENT: Final = "kube-probe/smi-mesh"
_SERVING: Final = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}."""


class CheckFailed(Exception):  # noqa: N818 - names what happened
    """The app did not pass; the message says why."""


async def perform(check: Check, host: str) -> None:
    """Do at `host` what the kubelet would do. Raises CheckFailed."""
    try:
        async with asyncio.timeout(check.seconds):
            if check.kind == "tcp":
                _, writer = await asyncio.open_connection(host, check.port)
                writer.close()
            elif check.kind == "grpc":
                await _health(check, host)
            else:
                await _get(check, host)
    except TimeoutError:
        raise CheckFailed(f"no answer within {check.seconds:g} s") from None
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CheckFailed(str(error) or type(error).__name__) from None


# --- HTTP -----------------------------------------------------------------------------------------------


def _trusting() -> ssl.SSLContext:
    """As the kubelet: "the certificate is not verified" for a probe of scheme HTTPS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a default one parses the system's authorities
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _get(check: Check, host: str) -> None:
    secure = _trusting() if check.kind == "https" else None
    reader, writer = await asyncio.open_connection(host, check.port, ssl=secure, limit=_MOST_LINE)
    try:
        writer.write(_request(check, host))
        words = (await reader.readline()).split(b" ", 2)
    finally:
        writer.transport.abort()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1][:3].isdigit():
        raise CheckFailed("no HTTP answer")
    status = int(words[1][:3])
    if not 200 <= status < 400:
        raise CheckFailed(f"HTTP probe failed with statuscode: {status}")


def _request(check: Check, host: str) -> bytes:
    given = {name.lower() for name, _ in check.headers}
    usual = (("Host", f"{host}:{check.port}"), ("User-Agent", _AGENT), ("Accept", "*/*"))
    fields = [*(field for field in usual if field[0].lower() not in given), *check.headers]
    path = check.path if check.path.startswith("/") else f"/{check.path}"
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "backslashreplace")


# --- gRPC -----------------------------------------------------------------------------------------------


async def _health(check: Check, host: str) -> None:
    """grpc.health.v1.Health/Check: SERVING passes, anything else does not."""
    loop = asyncio.get_running_loop()
    transport, call = await loop.create_connection(lambda: _Call(loop), host, check.port)
    try:
        call.ask(f"{host}:{check.port}".encode(), check.service.encode())
        await call.over
    finally:
        transport.abort()
    if call.status != b"0":
        raise CheckFailed(f"gRPC status {call.status.decode('latin-1') or 'missing'}")
    if call.answer[:1] != b"\x00" or call.answer[5:7] != _SERVING:
        raise CheckFailed("the service is not SERVING")


class _Call(asyncio.Protocol):
    """One unary call over cleartext HTTP/2, and everything its connection tells."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.over: asyncio.Future[None] = loop.create_future()
        self.status = b""
        self.answer = b""
        self._loop = loop
        self._transport: asyncio.Transport
        self._connection: Connection

    def ask(self, authority: bytes, service: bytes) -> None:
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/grpc.health.v1.Health/Check"),
            (b":authority", authority),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", _AGENT.encode()),
        ]
        message = b"\x0a" + _varint(len(service)) + service if service else b""
        opened = self._connection.open(fields, self, end=False)
        self._connection.send_data(opened, b"\x00" + len(message).to_bytes(4, "big") + message, end=True)
        self._flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = as_stream(transport)
        self._connection = Connection(self, lambda: None, server=False, now=self._loop.time())

    def data_received(self, data: bytes) -> None:
        try:
            self._connection.receive(data, self._loop.time())
        except BadConnection as error:
            self._fail(str(error))
            return
        self._flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._fail("the connection was closed before the answer")

    def _flush(self) -> None:
        while data := self._connection.take():
            self._transport.write(data)
            self._connection.pump()

    def _fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(CheckFailed(why))

    def _end(self, fields: Fields) -> None:
        self.status = next((value for name, value in fields if name == b"grpc-status"), b"")
        if not self.over.done():
            self.over.set_result(None)

    def on_response(self, _stream: Stream, head: StreamResponse, end: bool) -> None:
        if end:
            self._end(head.fields)
        elif head.status != 200:
            self._fail(f"HTTP status {head.status}")

    def on_data(self, _stream: Stream, data: bytes, end: bool) -> bool:
        self.answer += data
        if end or len(self.answer) > _MOST_ANSWER:
            self._fail("an answer without a gRPC status")
        return True

    def on_trailers(self, _stream: Stream, fields: Fields) -> None:
        self._end(fields)

    def on_reset(self, _stream: Stream, code: int) -> None:
        self._fail(f"the call was reset with code {code}")

    def on_goaway(self, last: int) -> None:
        if last < 1:
            self._fail("the server goes away")

    def on_sent(self, stream: Stream, size: int) -> None: ...
    def on_request(self, stream: Stream, head: StreamRequest, _end: bool) -> None: ...
    def on_refused(self, stream: Stream, error: BadMessage, _end: bool) -> None: ...
    def on_malformed(self, error: BadMessage) -> None: ...
    def on_declined(self) -> None: ...
    def on_settings(self) -> None: ...
    def on_drained(self) -> None: ...
    def on_pong(self) -> None: ...


def _varint(number: int) -> bytes:
    """A protobuf varint."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
