"""A request for another protocol, passed on to the server it is for: the connection as it is, both ways.

For upgraded connections through aggregated APIs and through pods/proxy and services/proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from localmesh.streams.answer import Answer, AnswerError
from localmesh.streams.contract import ClientGoneError
from localmesh.streams.duplex import Upgraded, upgrade
from localmesh.streams.watching import DEFAULTS, Limits, attended

CHUNK: Final = 64 * 1024
CONNECT_S: Final = 10.0
ANSWER_S: Final = 60.0
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

Headers = Iterable[tuple[str, str]]


class UnreachableError(Exception):
    """There is no such server, or it does not answer in HTTP."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to send the request, and how that server proves itself."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """The name in its certificate; None: `host`."""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def end_to_end(headers: Headers) -> list[tuple[str, str]]:
    """Fields that are not about one connection only (RFC 9110, 7.6.1)."""
    fields = list(headers)
    named = {
        one.strip().lower()
        for name, value in fields
        if name.lower() == "connection"
        for one in value.split(",")
    }
    return [(name, value) for name, value in fields if name.lower() not in _HOP_BY_HOP | named]


async def tunnel(
    request: web.BaseRequest, to: Destination, path: str, headers: Headers, limits: Limits = DEFAULTS
) -> web.StreamResponse:
    """Ask `to` for the upgrade that `request` asks for. What it answers is the answer, also a refusal.

    `path` is encoded and has the query; `headers` are without those of the connection. Raises
    UnreachableError as long as nothing was answered.
    """
    body = await request.read() if request.body_exists else b""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                to.host,
                to.port,
                ssl=to.tls,
                server_hostname=(to.server_name or to.host) if to.tls else None,
                limit=CHUNK,
            )
    except OSError as error:
        raise UnreachableError(f"{error or type(error).__name__}") from error
    try:
        writer.write(_head(request, to, path, headers, len(body)) + body)
        answer = Answer(reader)
        try:
            async with asyncio.timeout(ANSWER_S):
                await answer.head()
        except (AnswerError, OSError) as error:
            raise UnreachableError(f"{error or type(error).__name__}") from error
        if answer.upgraded:
            return await _joined(request, answer, reader, writer, limits)
        return await _refused(request, answer)
    finally:
        writer.close()


def _head(request: web.BaseRequest, to: Destination, path: str, headers: Headers, length: int) -> bytes:
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {to.authority}"]
    lines += [
        f"{name}: {value}"
        for name, value in headers
        if name.lower() not in ("host", "content-length", "expect")
    ]
    lines += ["Connection: Upgrade", f"Upgrade: {request.headers.get('Upgrade', '')}"]
    lines += [f"Content-Length: {length}"] if length or request.method not in ("GET", "HEAD") else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def _refused(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in end_to_end(answer.headers):
        response.headers.add(name, value)
    if "Content-Length" not in response.headers and request.method != "HEAD":
        response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        while data := await answer.body():
            await response.write(data)
        await response.write_eof()
    except (AnswerError, OSError):  # the status line is long gone: only the connection can say it
        response.force_close()
        if request.transport is not None:
            request.transport.abort()
    return response


async def _joined(
    request: web.BaseRequest,
    answer: Answer,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    limits: Limits,
) -> web.StreamResponse:
    kept = dict(end_to_end(answer.headers))
    changed = {name: value for name, value in answer.headers if name.lower() == "upgrade"}
    response, client = await upgrade(request, {"Connection": "Upgrade", **changed, **kept}, answer.reason)
    traffic = 0

    async def downward() -> None:
        nonlocal traffic
        data = answer.rest or await reader.read(CHUNK)
        while data:
            traffic += 1
            await client.write(data)
            data = await reader.read(CHUNK)

    async def upward(client: Upgraded) -> None:
        nonlocal traffic
        while data := await client.read():
            traffic += 1
            writer.write(data)
            await writer.drain()
        raise ClientGoneError("the client closed the connection")

    async def patience() -> None:
        seen = -1
        while traffic != seen:
            seen = traffic
            await asyncio.sleep(limits.idle)
        raise ClientGoneError(f"nothing was sent for {limits.idle:g} s")

    with contextlib.suppress(OSError):  # the server's side was reset; closing the client's passes that on
        await attended(downward(), upward(client), patience())
    return response
