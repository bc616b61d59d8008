"""The one table of answers the proxy makes itself, and their form on the wire.

Nothing else in the sidecar writes a status code of its own. A denial (S25) carries DENIAL_HEADER,
every other answer REASON_HEADER; the reasons are a closed set, so they can be metric labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from smi.names import DENIAL_HEADER, REASON_HEADER
from smi.policy.access import Denial

_PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    408: "Request Timeout",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


class Outcome(Enum):
    """(status, reason, text). The reason is the value of REASON_HEADER and of the metric label."""

    BAD_REQUEST = (400, "bad-request", "the request is not well-formed")
    REQUEST_TIMEOUT = (408, "request-timeout", "the request did not arrive in time")
    HEAD_TOO_LARGE = (431, "head-too-large", "the request's head is too large")
    NOT_IMPLEMENTED = (501, "not-implemented", "the method is not known")
    VERSION = (505, "version", "this version of HTTP is not spoken here")
    LOOP = (400, "loop", "the request asks the proxy for itself")
    NO_CONFIG = (503, "no-config", "the proxy has no configuration yet")
    UNKNOWN = (503, "destination-not-known", "the controller has not said where this destination is")
    NO_BACKEND = (503, "no-backend", "no backend of the TrafficSplit can take the request")
    NO_ENDPOINT = (503, "no-endpoint", "the service has no ready endpoint")
    CONNECT_FAILED = (503, "connect-failed", "no connection to the server could be made")
    CONNECT_TIMEOUT = (504, "connect-timeout", "no connection to the server could be made in time")
    WRONG_PEER = (503, "wrong-peer", "the server is not who the mesh says it must be")
    PEER_EXPIRED = (503, "peer-expired", "the server's certificate has expired")
    NO_HTTP2 = (503, "no-http2", "the server's proxy does not speak HTTP/2")
    OVERFLOW = (503, "overflow", "too many requests to the server are under way")
    RATE_LIMITED = (429, "rate-limited", "a rate limit lets no more requests through for now")
    OVERLOAD = (503, "overload", "the proxy has no memory left for another request")
    CROWDED = (503, "too-many-connections", "the proxy has no room for another connection")
    RESET = (502, "upstream-reset", "the server closed the connection before it answered")
    BAD_RESPONSE = (502, "bad-response", "the server's answer is not well-formed")
    RESPONSE_TIMEOUT = (504, "response-timeout", "the server did not answer in time")
    DEADLINE = (504, "deadline", "the client's own deadline has passed")

    def __init__(self, status: int, reason: str, text: str) -> None:
        self.status = status
        self.reason = reason
        self.text = text


UNPROCESSED: Final = frozenset({Outcome.CONNECT_FAILED.reason, Outcome.CONNECT_TIMEOUT.reason})
"""Reasons of a peer proxy's answer that say no server saw the request, so that another may be asked."""
LOST: Final = frozenset({Outcome.RESET.reason})
"""Reasons that say the request was lost in flight: another server may be asked if it is idempotent."""

_OF_FAULT: Final = {
    outcome.status: outcome
    for outcome in (Outcome.BAD_REQUEST, Outcome.HEAD_TOO_LARGE, Outcome.NOT_IMPLEMENTED, Outcome.VERSION)
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of our own. `header` is one complete field line without its line end."""

    status: int
    reason: str
    """What the metric says: an Outcome's reason or a denial's."""
    header: str
    text: str
    close: bool = False
    """The connection cannot go on after it, whatever the client wants."""
    retry_after: int = 0
    """Seconds after which another try may be worth it (RFC 9110 §10.2.3); 0: nothing is said of that."""


def refused(denial: Denial) -> Reply:
    """S25: 403 with the reason and the id, and a body that says why."""
    text = "\n".join((denial.message, *denial.nearest))
    return Reply(403, denial.reason, f"{DENIAL_HEADER}: {denial.reason}; id={denial.id}", text)


def failed(outcome: Outcome, detail: str = "", retry_after: int = 0) -> Reply:
    """The answer for `outcome`; `detail`, our own words, replaces its text."""
    header = f"{REASON_HEADER}: {outcome.reason}"
    return Reply(outcome.status, outcome.reason, header, detail or outcome.text, retry_after=retry_after)


def malformed(status: int, text: str) -> Reply:
    """The answer to a client whose request cannot be understood; the connection ends with it."""
    outcome = _OF_FAULT[status]
    return Reply(status, outcome.reason, f"{REASON_HEADER}: {outcome.reason}", text, close=True)


def render(reply: Reply, *, close: bool, keep_alive: bool = False, head_only: bool = False) -> bytes:
    """The reply as HTTP/1.1. `keep_alive`: the client speaks HTTP/1.0 and the connection goes on."""
    body = f"smi-mesh: {reply.text}\n".encode("utf-8", "backslashreplace")
    connection = "connection: close\r\n" if close else "connection: keep-alive\r\n" if keep_alive else ""
    later = f"retry-after: {reply.retry_after}\r\n" if reply.retry_after else ""
    head = (
        f"HTTP/1.1 {reply.status} {_PHRASES[reply.status]}\r\n{reply.header}\r\n{later}"
        f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n{connection}\r\n"
    ).encode("ascii", "replace")
    return head if head_only else head + body
