"""The discovery protocol as data: lines in, lines out. See docs/architecture.md for the exchange.

Pure: no sockets. Whatever a client sends is either one of the messages here or a ProtocolError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from smi.policy.codec import JSON

PROTOCOL: Final = 1
MAX_CLIENT_LINE: Final = 1 << 20
"""Longest line a client may send, in bytes."""
MAX_UPDATE: Final = 8 << 20
"""An update is cut into several lines of about this size; the protocol allows 16 MiB."""
MAX_SERVER_LINE: Final = 16 << 20
MAX_KEYS: Final = 20_000
"""Subscriptions of one proxy."""
_MAX_KEY: Final = 300
_MAX_TEXT: Final = 1000

MAX_TAPPED: Final = 1000
"""Requests in one message of a tap."""
TAPPED_FIELDS: Final = (
    "time", "direction", "peer", "workload", "identity", "service", "backend", "split", "method", "path",
    "status", "reason", "grpc", "ms",
)  # fmt: skip

PONG: Final = b'{"type":"pong"}\n'
WITHDRAWN: Final = b'{"type":"withdrawn"}\n'


class ProtocolError(ValueError):
    """The client said something it must not; the message is sent to it before the stream is closed."""


@dataclass(frozen=True, slots=True)
class Hello:
    pod: str
    """`namespace/name` as claimed: to be proven by the certificate."""
    version: str
    subscriptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subscribe:
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ack:
    revision: int


@dataclass(frozen=True, slots=True)
class Nack:
    revision: int
    error: str


@dataclass(frozen=True, slots=True)
class Tapped:
    """Requests that a tap let through. `note` says why there are none."""

    tap: str
    requests: tuple[Mapping[str, str | int | float], ...]
    dropped: int
    note: str


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Leaving:
    """The proxy's pod is about to end: it wants to know when nobody calls it any more."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a newer client: ignored."""


Message = Hello | Subscribe | Unsubscribe | Ack | Nack | Tapped | Ping | Leaving | Unknown


def parse(line: bytes) -> Message:
    """One line of a client. Raises ProtocolError, and nothing else, for any bytes."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("a line is not JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("a line is not a JSON object")
    match message.get("type"):
        case "hello":
            return _hello(message)
        case "subscribe":
            return Subscribe(_keys(message, "keys"))
        case "unsubscribe":
            return Unsubscribe(_keys(message, "keys"))
        case "ack":
            return Ack(_revision(message))
        case "nack":
            return Nack(_revision(message), _text(message, "error")[:_MAX_TEXT])
        case "tapped":
            return _tapped(message)
        case "ping":
            return Ping()
        case "leaving":
            return Leaving()
        case str():
            return Unknown()
        case _:
            raise ProtocolError("'type' must be a string")


def _hello(message: Mapping[str, object]) -> Hello:
    if message.get("protocol") != PROTOCOL:
        raise ProtocolError(f"'protocol' must be {PROTOCOL}, got {message.get('protocol')!r:.40}")
    pod = _text(message, "pod")
    namespace, slash, name = pod.partition("/")
    if not (namespace and slash and name) or "/" in name or len(pod) > _MAX_KEY:
        raise ProtocolError("'pod' must be 'namespace/name'")
    return Hello(pod, _text(message, "version")[:_MAX_TEXT], _keys(message, "subscriptions"))


def _tapped(message: Mapping[str, object]) -> Tapped:
    requests = message.get("requests")
    if not isinstance(requests, list) or len(requests) > MAX_TAPPED:
        raise ProtocolError(f"'requests' must be a list of at most {MAX_TAPPED} objects")
    return Tapped(
        _text(message, "id")[:_MAX_TEXT],
        tuple(_request(request) for request in requests),
        _revision({"revision": message.get("dropped", 0)}),
        _text(message, "error")[:_MAX_TEXT],
    )


def _request(request: object) -> Mapping[str, str | int | float]:
    """Of what a proxy says of a request, known fields of small size."""
    if not isinstance(request, dict):
        raise ProtocolError("'requests' must hold objects")
    found: dict[str, str | int | float] = {}
    for key in TAPPED_FIELDS:
        value = request.get(key, "")
        if isinstance(value, str):
            found[key] = value[:_MAX_TEXT]
        elif isinstance(value, int | float) and abs(value) < 1e15:
            found[key] = value
        else:
            raise ProtocolError(f"{key!r} of a request must be text or a number")
    return found


def tap_line(tap: str, filters: Mapping[str, str], seconds: float, rate: int) -> bytes:
    """Asks a proxy to show requests for a while."""
    return _line({"type": "tap", "id": tap, "filter": dict(filters), "seconds": seconds, "rate": rate})


def untap_line(tap: str) -> bytes:
    """Ends a tap."""
    return _line({"type": "untap", "id": tap})


def _text(message: Mapping[str, object], name: str) -> str:
    value = message.get(name, "")
    if not isinstance(value, str):
        raise ProtocolError(f"{name!r} must be a string")
    return value


def _revision(message: Mapping[str, object]) -> int:
    value = message.get("revision")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ProtocolError("'revision' must be a whole number")
    return value


def _keys(message: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = message.get(name, [])
    if not isinstance(value, list) or len(value) > MAX_KEYS:
        raise ProtocolError(f"{name!r} must be a list of at most {MAX_KEYS} keys")
    for key in value:
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY or not key.isprintable():
            raise ProtocolError(f"{name!r} must hold strings of 1 to {_MAX_KEY} printable characters")
    return tuple(value)


def error_line(message: str) -> bytes:
    """The last line of a stream that the server closes."""
    return _line({"type": "error", "message": message[:_MAX_TEXT]})


_ORDER: Final = {"breaker": 0, "cluster": 1}
"""Kinds of resources that go before all others."""


def update_lines(
    revision: int,
    *,
    full: bool,
    changed: Mapping[str, JSON],
    removed: Iterable[str],
    limit: int = MAX_UPDATE,
) -> Iterator[bytes]:
    """An update as lines of about `limit` bytes: `full` and `removed` are in the first one.

    A client that has applied some of the lines runs a mixture of two revisions, each resource whole.
    """
    # What a destination mentions must not come after it. A full update's first line holds every breaker, so
    # that none is gone for a moment, with what it counts.
    ordered = sorted(changed.items(), key=lambda item: _ORDER.get(item[0].partition("/")[0], len(_ORDER)))
    resources: dict[str, JSON] = {}
    size, first = 0, True
    for name, value in ordered:
        length = len(json.dumps(value, separators=(",", ":"))) + len(name) if len(changed) > 1 else 0
        if resources and size + length > limit:
            yield _update(revision, resources, full=full and first, removed=removed if first else ())
            resources, size, first = {}, 0, False
        resources[name] = value
        size += length
    yield _update(revision, resources, full=full and first, removed=removed if first else ())


def _update(revision: int, resources: Mapping[str, JSON], *, full: bool, removed: Iterable[str]) -> bytes:
    line = _line(
        {
            "type": "update",
            "revision": revision,
            "full": full,
            "resources": dict(resources),
            "removed": list(removed),
        }
    )
    if len(line) > MAX_SERVER_LINE:
        largest = max(resources, key=lambda name: len(json.dumps(resources[name])))
        raise ProtocolError(f"resource {largest} is too large for one line of {MAX_SERVER_LINE} bytes")
    return line


def _line(message: Mapping[str, object]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
