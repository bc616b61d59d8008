"""Sends requests and TCP lines as an application would, and counts what came back.

Workers share one counter; each keeps its own connection alive. A kept-alive connection that the
peer closed before the first byte of an answer is replaced once, as HTTP clients do (RFC 9110
§9.2.2), and counted as a reconnect, not as a failure.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from conformance.app.echo import SERVER_HEADER
from conformance.app.http1 import MAX_HEAD, BadMessageError, Request, Response, encode_request, read_response
from conformance.app.settings import Proxy

if TYPE_CHECKING:
    from conformance.app.http2 import Http2


class Failure(StrEnum):
    """Why an exchange had no answer. The value is what `error` says in a report."""

    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed"
    """The peer ended the connection in order, but before a whole answer."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    """No route, no such name, or another network error."""
    PROTOCOL = "protocol"
    """Something that is not HTTP came back."""
    PROXY = "proxy"
    """The explicit proxy answered CONNECT with something other than 2xx."""


@dataclass(frozen=True, slots=True)
class Call:
    """One order: `count` requests, or as many as fit in `seconds` when that is > 0."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    count: int = 1
    seconds: float = 0.0
    concurrency: int = 1
    timeout: float = 5.0
    """Seconds for one exchange, connecting included."""
    keep_alive: bool = True
    interval: float = 0.0
    """Seconds each worker pauses between its requests."""
    http: str = "http/1.1"
    """`http/1.1`, `http/2` with prior knowledge, or `grpc` (a unary call)."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one request came to: an answer, or a failure with its detail."""

    seconds: float
    status: int | None = None
    server: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    error: Failure | None = None
    detail: str = ""


@dataclass(slots=True)
class Report:
    """All results of one order, and how many stale connections were replaced on the way."""

    results: list[Result] = field(default_factory=list)
    reconnects: int = 0


class NoAnswerError(Exception):
    """An exchange ended without an answer; says why."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure}: {detail}")
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads: what to connect to, and how the request line and Host are written."""

    connect: tuple[str, int]
    target: str
    host: str
    tunnel: str = ""
    """What to ask the proxy to CONNECT to before anything else: HTTP/2 has no absolute form."""


def resolve_url(url: str, proxy: Proxy | None, *, http2: bool = False) -> Address:
    """Split an http URL. Through a proxy the target is in absolute form, or HTTP/2 in a tunnel.

    Raises ValueError.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"url {url!r}: expected http://<host>[:<port>]/<path>")
    port = parts.port or 80
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = parts.netloc.rpartition("@")[2]
    if proxy is not None and proxy.serves(parts.hostname):
        if http2:
            return Address((proxy.host, proxy.port), path, authority, f"{parts.hostname}:{port}")
        return Address((proxy.host, proxy.port), f"http://{authority}{path}", authority)
    return Address((parts.hostname, port), path, authority)


async def send(call: Call, proxy: Proxy | None) -> Report:
    """Carry out the order. Raises ValueError for a URL that cannot be used; network faults are results."""
    address = resolve_url(call.url, proxy, http2=call.http != "http/1.1")
    report = Report()
    turns = _turns(call)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(call.concurrency, call.count) if not call.seconds else call.concurrency):
            group.create_task(_work(call, address, turns, report))
    return report


class _Turns:
    """Says whether there is another request to send: by count, or by the clock."""

    def __init__(self, count: int | None, until: float) -> None:
        self._left = count
        self._until = until

    def take(self) -> bool:
        if self._left is None:
            return time.monotonic() < self._until
        self._left -= 1
        return self._left >= 0


def _turns(call: Call) -> _Turns:
    if call.seconds > 0:
        return _Turns(None, time.monotonic() + call.seconds)
    return _Turns(call.count, 0.0)


async def _work(call: Call, address: Address, turns: _Turns, report: Report) -> None:
    line = _Line(address, http2=call.http != "http/1.1")
    request = Request(
        call.method,
        address.target,
        _request_headers(call, address),
        call.body.encode(),
    )
    if call.http == "grpc":
        from conformance.app.http2 import grpc_request

        request = grpc_request(request)
    while turns.take():
        report.results.append(await _exchange(line, request, call, report))
        if call.interval:
            await asyncio.sleep(call.interval)
    await line.close()


def _request_headers(call: Call, address: Address) -> tuple[tuple[str, str], ...]:
    given = {name.lower() for name, _ in call.headers}
    own = [] if "host" in given else [("host", address.host)]
    if not call.keep_alive and "connection" not in given:
        own.append(("connection", "close"))
    if call.body == "" and call.method in ("POST", "PUT", "PATCH") and "content-length" not in given:
        own.append(("content-length", "0"))
    return (*own, *call.headers)


async def _exchange(line: _Line, request: Request, call: Call, report: Report) -> Result:
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(call.timeout):
            response = await _ask(line, request, report)
    except NoAnswerError as error:
        await line.close()
        return Result(time.perf_counter() - begin, error=error.failure, detail=error.detail)
    except TimeoutError:
        await line.close()
        detail = f"no answer within {call.timeout:g} s"
        return Result(time.perf_counter() - begin, error=Failure.TIMEOUT, detail=detail)
    elapsed = time.perf_counter() - begin
    server = response.header(SERVER_HEADER)
    return Result(elapsed, response.status, server, response.headers, response.body)


async def _ask(line: _Line, request: Request, report: Report) -> Response:
    reused = line.open
    try:
        return await line.ask(request)
    except _StaleError as error:
        if not reused:
            raise NoAnswerError(error.failure, str(error)) from None
    report.reconnects += 1
    await line.close()
    try:
        return await line.ask(request)
    except _StaleError as error:
        raise NoAnswerError(error.failure, str(error)) from None


class _StaleError(Exception):
    """The connection ended before the first byte of an answer."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class _Line:
    """One worker's connection, opened when needed."""

    def __init__(self, address: Address, *, http2: bool = False) -> None:
        self._address = address
        self._speaks_http2 = http2
        self._http2: Http2 | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def open(self) -> bool:
        return self._streams is not None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.tunnel:
            reader, writer = await dial_through(*self._address.connect, self._address.tunnel)
        else:
            reader, writer = await dial(*self._address.connect)
        if self._speaks_http2:
            from conformance.app.http2 import Http2  # here: others start with the standard library

            self._http2 = Http2(reader, writer, client=True)
        return reader, writer

    async def ask(self, request: Request) -> Response:
        """One exchange; raises _StaleError before the first byte of an answer, NoAnswerError after it."""
        if self._streams is None:
            self._streams = await self._open()
        reader, writer = self._streams
        try:
            if self._http2 is not None:
                return await self._http2.ask(request)
            writer.write(encode_request(request))
            await writer.drain()
            response, close = await read_response(reader, request.method)
        except asyncio.IncompleteReadError as error:
            raise NoAnswerError(Failure.CLOSED, f"after {len(error.partial)} bytes of an answer") from None
        except EOFError as error:
            raise _StaleError(Failure.CLOSED, str(error)) from None
        except (BadMessageError, asyncio.LimitOverrunError) as error:
            raise NoAnswerError(Failure.PROTOCOL, str(error)) from None
        except ConnectionError as error:
            raise _StaleError(Failure.RESET, str(error)) from None
        except OSError as error:
            raise NoAnswerError(Failure.UNREACHABLE, str(error)) from None
        if close:
            await self.close()
        return response

    async def close(self) -> None:
        if self._streams is None:
            return
        writer = self._streams[1]
        self._streams = self._http2 = None
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def dial(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; raises NoAnswerError."""
    try:
        return await asyncio.open_connection(host, port, limit=MAX_HEAD)
    except ConnectionRefusedError as error:
        raise NoAnswerError(Failure.REFUSED, str(error)) from None
    except ConnectionError as error:
        raise NoAnswerError(Failure.RESET, str(error)) from None
    except OSError as error:
        raise NoAnswerError(Failure.UNREACHABLE, str(error)) from None


async def dial_through(
    host: str, port: int, authority: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to `authority` through an HTTP proxy at `host`:`port`; raises NoAnswerError."""
    reader, writer = await dial(host, port)
    try:
        await _tunnel(reader, writer, authority)
    except NoAnswerError:
        writer.close()
        raise
    return reader, writer


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
    try:
        writer.write(encode_request(Request("CONNECT", authority, (("host", authority),))))
        await writer.drain()
        response, _ = await read_response(reader, "CONNECT")
    except ConnectionError as error:
        raise NoAnswerError(Failure.RESET, str(error)) from None
    except EOFError as error:
        raise NoAnswerError(Failure.CLOSED, str(error)) from None
    except (BadMessageError, asyncio.LimitOverrunError) as error:
        raise NoAnswerError(Failure.PROTOCOL, str(error)) from None
    if not 200 <= response.status < 300:
        raise NoAnswerError(Failure.PROXY, f"CONNECT {authority} was answered {response.status}")


def summarise(report: Report) -> dict[str, object]:
    """Counts by status, server, error and refusal reason, and latency quantiles in seconds."""
    results = report.results
    times = sorted(result.seconds for result in results)
    return {
        "total": len(results),
        "statuses": _count(str(result.status) for result in results if result.status is not None),
        "servers": _count(result.server for result in results if result.server and result.status == 200),
        "errors": _count(str(result.error) for result in results if result.error is not None),
        "reasons": _count(_refusal(result) for result in results),
        "reconnects": report.reconnects,
        "latency": {
            "p50": _quantile(times, 0.5),
            "p99": _quantile(times, 0.99),
            "max": _quantile(times, 1.0),
        },
    }


def _count(values: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(value for value in values if value).items()))


def _refusal(result: Result) -> str | None:
    """The reason word of the mesh's own refusal headers (`<reason>; id=…`), if the answer has one."""
    for name, value in result.headers:
        if name in ("x-smi-mesh-denial", "x-smi-mesh-reason"):
            return value.partition(";")[0].strip()
    return None


def _quantile(ordered: list[float], share: float) -> float:
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 6)
