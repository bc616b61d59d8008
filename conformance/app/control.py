"""The control port: makes the application call others, and tells what it saw.

`POST /call`, `POST /tcp` and `POST /udp` take a JSON order (the fields of `caller.Call`, `talk.Talk`
and `datagram.Flows`) and
answer with a summary, plus single results when there are few or `detail` asks for them. `GET /seen`
counts what reached the application, `GET /ready` says that it is up. The port is excluded from the
mesh: orders must arrive whatever the policy says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Final

from conformance.app.caller import Call, Result, send, summarise
from conformance.app.datagram import MAX_DATAGRAM, Flows, exchange
from conformance.app.echo import Seen
from conformance.app.http1 import Request, Response
from conformance.app.settings import Proxy
from conformance.app.talk import Heard, Talk, talk

FEW: Final = 100
"""Up to so many results are listed one by one without being asked for."""
MAX_COUNT: Final = 1_000_000
MAX_FLOWS: Final = 800
"""Each has a socket until all are done; many systems give a process 1024 descriptors."""
MAX_CONCURRENCY: Final = 512
MAX_SECONDS: Final = 600.0
BODY_EXCERPT: Final = 2048
"""Bytes of an answer's body that are reported."""


class BadOrderError(ValueError):
    """An order that cannot be carried out; the text names the field."""


class Control:
    """Handler of the control port."""

    def __init__(self, name: str, proxy: Proxy | None, seen: Seen) -> None:
        self._name = name
        self._proxy = proxy
        self._seen = seen

    async def __call__(self, request: Request) -> Response:
        try:
            status, answer = await self._route(request)
        except ValueError as error:  # BadOrderError, a URL that cannot be used, JSON that does not parse
            status, answer = 400, {"error": str(error)}
        body = json.dumps(answer).encode() + b"\n"
        return Response(status, (("content-type", "application/json"),), body)

    async def _route(self, request: Request) -> tuple[int, Mapping[str, object]]:
        match request.method, request.path:
            case "GET", "/ready":
                return 200, {"name": self._name}
            case "GET", "/seen":
                return 200, asdict(self._seen)
            case "POST", "/call":
                return 200, await self._call(_order(request.body))
            case "POST", "/tcp":
                return 200, _heard(await talk(read_talk(_order(request.body)), self._proxy))
            case "POST", "/udp":
                return 200, _heard(await exchange(read_flows(_order(request.body))))
        return 404, {"error": f"no such thing: {request.method} {request.path}"}

    async def _call(self, order: Mapping[str, object]) -> Mapping[str, object]:
        report = await send(read_call(order), self._proxy)
        answer: dict[str, object] = {"summary": summarise(report)}
        if len(report.results) <= FEW or order.get("detail"):
            answer["results"] = [_shown(result) for result in report.results]
        return answer


def _heard(results: Iterable[Heard]) -> Mapping[str, object]:
    return {
        "results": [
            {
                "received": list(result.received),
                "seconds": round(result.seconds, 6),
                "error": result.error,
                "detail": result.detail,
            }
            for result in results
        ]
    }


def _shown(result: Result) -> dict[str, object]:
    return {
        "status": result.status,
        "server": result.server,
        "seconds": round(result.seconds, 6),
        "error": result.error,
        "detail": result.detail,
        "headers": dict(result.headers),
        "body": result.body[:BODY_EXCERPT].decode("utf-8", "replace"),
    }


def _order(body: bytes) -> Mapping[str, object]:
    order = json.loads(body)
    if not isinstance(order, dict):
        raise BadOrderError("expected a JSON object")
    return order


def read_call(order: Mapping[str, object]) -> Call:
    """Check an order for `POST /call`; raises BadOrderError naming the field."""
    return Call(
        url=_text(order, "url"),
        method=_text(order, "method", "GET"),
        headers=_headers(order.get("headers")),
        body=_text(order, "body", ""),
        count=_whole(order, "count", 1, MAX_COUNT),
        seconds=_number(order, "seconds", 0.0, MAX_SECONDS),
        concurrency=_whole(order, "concurrency", 1, MAX_CONCURRENCY),
        timeout=_number(order, "timeout", 5.0, MAX_SECONDS),
        keep_alive=order.get("keep_alive", True) is not False,
        interval=_number(order, "interval", 0.0, MAX_SECONDS),
        http=_choice(order, "http", ("http/1.1", "http/2", "grpc")),
    )


def read_talk(order: Mapping[str, object]) -> Talk:
    """Check an order for `POST /tcp`; raises BadOrderError naming the field."""
    lines = _texts(order, "send")
    if any("\n" in line for line in lines):
        raise BadOrderError("send: expected a line or a list of lines")
    return Talk(
        host=_text(order, "host"),
        port=_whole(order, "port", 0, 65535),
        send=lines,
        count=_whole(order, "count", 1, MAX_COUNT),
        concurrency=_whole(order, "concurrency", 1, MAX_CONCURRENCY),
        greeting=order.get("greeting") is True,
        timeout=_number(order, "timeout", 5.0, MAX_SECONDS),
    )


def read_flows(order: Mapping[str, object]) -> Flows:
    """Check an order for `POST /udp`; raises BadOrderError naming the field."""
    payloads = _texts(order, "send")
    if any(len(payload.encode()) > MAX_DATAGRAM for payload in payloads):
        raise BadOrderError(f"send: expected payloads of at most {MAX_DATAGRAM} bytes")
    return Flows(
        host=_text(order, "host"),
        port=_whole(order, "port", 0, 65535),
        send=payloads,
        count=_whole(order, "count", 1, MAX_FLOWS),
        concurrency=_whole(order, "concurrency", 1, MAX_CONCURRENCY),
        timeout=_number(order, "timeout", 2.0, MAX_SECONDS),
        interval=_number(order, "interval", 0.0, MAX_SECONDS),
    )


def _texts(order: Mapping[str, object], field: str) -> tuple[str, ...]:
    value = order.get(field, "ping")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise BadOrderError(f"{field}: expected a line or a list of lines")
    checked = [text for text in texts if isinstance(text, str)]
    if len(checked) != len(texts):
        raise BadOrderError(f"{field}: expected a line or a list of lines")
    return tuple(checked)


def _text(order: Mapping[str, object], field: str, default: str | None = None) -> str:
    value = order.get(field, default)
    if not isinstance(value, str):
        raise BadOrderError(f"{field}: expected a string")
    return value


def _choice(order: Mapping[str, object], field: str, known: tuple[str, ...]) -> str:
    value = _text(order, field, known[0])
    if value not in known:
        raise BadOrderError(f"{field}: expected one of {', '.join(known)}, got {value!r}")
    return value


def _whole(order: Mapping[str, object], field: str, default: int, high: int) -> int:
    value = order.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise BadOrderError(f"{field}: expected a whole number from 1 to {high}")
    return value


def _number(order: Mapping[str, object], field: str, default: float, high: float) -> float:
    value = order.get(field, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
        raise BadOrderError(f"{field}: expected a number from 0 to {high:g}")
    return float(value)


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    pairs = list(value.items()) if isinstance(value, dict) else (value or [])
    if not isinstance(pairs, list):
        raise BadOrderError("headers: expected an object or a list of pairs")
    checked = []
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(_is_header(part) for part in pair)):
            raise BadOrderError("headers: expected pairs of strings without line breaks")
        checked.append((pair[0], pair[1]))
    return tuple(checked)


def _is_header(part: object) -> bool:
    return isinstance(part, str) and "\r" not in part and "\n" not in part
