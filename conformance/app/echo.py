"""The echo handler: who answered, and what it saw. Pure but for the delay a caller asks for.

The query string asks for special answers: `status=503`, `delay=0.2` (seconds), `bytes=1000`
(padding), `chunks=3` (chunked body), `trailer=1`. They combine.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from conformance.app.http1 import MAX_BODY, Request, Response

SERVER_HEADER: Final = "x-served-by"
"""Response header that carries the answering service's NAME; callers count shares by it."""
POD_HEADER: Final = "x-served-by-pod"
MAX_DELAY: Final = 60.0


@dataclass(slots=True)
class Seen:
    """What reached this application so far: proof that a refused request never did."""

    requests: int = 0
    lines: int = 0
    """Lines on the TCP listener."""
    datagrams: int = 0
    """Datagrams on the UDP listener."""


class Echo:
    """Answers every request with a JSON account of it."""

    def __init__(self, name: str, pod: str, seen: Seen) -> None:
        self._name = name
        self._pod = pod
        self._seen = seen

    async def __call__(self, request: Request) -> Response:
        self._seen.requests += 1
        try:
            wish = parse_wish(request.query)
        except ValueError as error:
            return Response(400, self.headers, f"{error}\n".encode())
        if wish.delay:
            await asyncio.sleep(wish.delay)
        account = {
            "service": self._name,
            "pod": self._pod,
            "method": request.method,
            "target": request.target,
            "headers": [list(pair) for pair in request.headers],
            "body": request.body[:4096].decode("utf-8", "replace"),
            "body_bytes": len(request.body),
        }
        body = json.dumps(account).encode() + b"\n" + b"x" * wish.padding
        trailers = (("x-trailer", self._name),) if wish.trailer else ()
        chunks = wish.chunks or (1 if wish.trailer else 0)
        headers = (*self.headers, ("content-type", "application/json"))
        return Response(wish.status, headers, body, chunks=chunks, trailers=trailers)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The two headers every answer of this application carries."""
        return ((SERVER_HEADER, self._name), (POD_HEADER, self._pod))


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asked for in the query."""

    status: int = 200
    delay: float = 0.0
    padding: int = 0
    chunks: int = 0
    trailer: bool = False


def parse_wish(query: str) -> Wish:
    """Read the query; unknown names are ignored, bad values raise ValueError naming the parameter."""
    given = dict(parse_qsl(query))
    return Wish(
        status=_whole(given, "status", 200, 200, 599),
        delay=_seconds(given.get("delay", "0")),
        padding=_whole(given, "bytes", 0, 0, MAX_BODY // 2),
        chunks=_whole(given, "chunks", 0, 0, 100_000),
        trailer=given.get("trailer") == "1",
    )


def _whole(given: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise ValueError(f"{name}={text!r}: expected a whole number from {low} to {high}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_DELAY:
        raise ValueError(f"delay={text!r}: expected seconds from 0 to {MAX_DELAY:g}")
    return value
