"""The proxy's own answers as HTTP/2 sends them, and what gRPC makes of them (S25).

A gRPC client looks at `grpc-status` only, and takes it from the one HEADERS frame of a
"trailers-only" answer, whose HTTP status is 200. Codes and the message's encoding: gRPC over HTTP/2
(PROTOCOL-HTTP2.md) and the table of http-grpc-status-mapping.md.
"""

from __future__ import annotations

import re
from typing import Final

from dataplane.core.outcome import Outcome, Reply

Fields = list[tuple[bytes, bytes]]

CANCELLED: Final = 1
DEADLINE_EXCEEDED: Final = 4
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
INTERNAL: Final = 13
UNAVAILABLE: Final = 14

_BY_REASON: Final = {
    Outcome.RESPONSE_TIMEOUT.reason: DEADLINE_EXCEEDED,
    Outcome.DEADLINE.reason: DEADLINE_EXCEEDED,
    Outcome.BAD_RESPONSE.reason: INTERNAL,
    # Not the UNAVAILABLE of the mapping's table: many clients try that again at once.
    Outcome.RATE_LIMITED.reason: RESOURCE_EXHAUSTED,
    Outcome.NOT_IMPLEMENTED.reason: 12,  # UNIMPLEMENTED
}
_BY_STATUS: Final = {400: INTERNAL, 403: PERMISSION_DENIED, 431: INTERNAL}
_ESCAPED: Final = re.compile(rb"[^\x20-\x24\x26-\x7e]")
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def is_grpc(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.startswith(b"application/grpc")


def grpc_code(reply: Reply) -> int:
    """The gRPC status for an answer of our own; UNAVAILABLE where another try may help."""
    return _BY_REASON.get(reply.reason) or _BY_STATUS.get(reply.status, UNAVAILABLE)


def plain_answer(reply: Reply) -> tuple[Fields, bytes]:
    """(fields, body) of the answer to a request that is not gRPC's."""
    body = f"smi-mesh: {reply.text}\n".encode("utf-8", "backslashreplace")
    fields = [
        (b":status", b"%d" % reply.status),
        _field(reply),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    if reply.retry_after:
        fields.append((b"retry-after", b"%d" % reply.retry_after))
    return fields, body


def grpc_answer(reply: Reply) -> Fields:
    """The one list of fields that answers a gRPC call ("trailers-only")."""
    return [(b":status", b"200"), (b"content-type", b"application/grpc"), *grpc_end(reply)]


def grpc_end(reply: Reply) -> Fields:
    """Trailers that end a gRPC call whose answer had begun."""
    message = _ESCAPED.sub(lambda found: b"%%%02X" % found[0][0], f"smi-mesh: {reply.text}".encode())
    fields = [
        (b"grpc-status", b"%d" % grpc_code(reply)),
        (b"grpc-message", message),
        _field(reply),
    ]
    if reply.retry_after:  # gRFC A6, "Pushback"
        fields.append((b"grpc-retry-pushback-ms", b"%d" % (reply.retry_after * 1000)))
    return fields


def grpc_timeout(value: bytes | None) -> float | None:
    """Seconds of a `grpc-timeout` field; None if there is none, or none that can be read."""
    match = _TIMEOUT.fullmatch(value) if value is not None else None
    return int(match[1]) * _UNITS[match[2]] if match else None


def _field(reply: Reply) -> tuple[bytes, bytes]:
    name, _, value = reply.header.partition(": ")
    return name.encode("ascii"), value.encode("ascii", "replace")
