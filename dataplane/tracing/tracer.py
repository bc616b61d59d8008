"""Takes part in traces: one span per request and sidecar, of those requests that are sampled.

`begin` reads what a request says about its trace (`RequestHead.trace`), decides where nobody has (the head of
a trace decides for all of it), and puts the sidecar's own span into what is sent on, so that retries carry
the same. `finish` keeps what is needed of the request, cut to bounded lengths, in a bounded queue that
somebody else empties (`take`). A request that is not sampled costs a look at its head and, at the head of a
trace, a `traceparent` that says so. Compiled with the modules that serve.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import log
from time import perf_counter
from typing import Final

from dataplane.core.request_ids import RequestIds
from dataplane.core.traces import (
    FORMS,
    W3C,
    Context,
    read_context,
    says_no,
    write_context,
    write_refusal,
)
from dataplane.telemetry import Edge, HttpSeries, Telemetry
from dataplane.wire.http1 import Fields, RequestHead
from smi.names import DENIAL_HEADER, REASON_HEADER

MAX_WAITING: Final = 4096
"""Finished spans that wait to be sent."""
MAX_TEXT: Final = 256
"""Bytes of a method, path, host or other text of a request that a span keeps."""
MAX_STATE: Final = 512
"""Characters of `tracestate` (Trace Context, "Limits": what must be kept at least)."""
MAX_RETRIES: Final = 8

_DENIAL: Final = DENIAL_HEADER.encode()
_REASON: Final = REASON_HEADER.encode()
_NS: Final = 1e9
_NEVER: Final = 1 << 60


class Retry:
    """An attempt that failed before another one was made."""

    __slots__ = ("at", "host", "port", "why")

    def __init__(self, at: float, why: str, host: str, port: int) -> None:
        self.at = at
        """`perf_counter`."""
        self.why = why
        self.host = host
        self.port = port


class Span:
    """A sampled request under way. Ids are hexadecimal."""

    __slots__ = ("denial", "id", "parent", "peer_reason", "retries", "state", "trace")

    def __init__(self, trace: bytes, own: bytes, parent: bytes, state: list[bytes]) -> None:
        self.trace = trace
        self.id = own
        self.parent = parent
        """Empty at the head of a trace."""
        self.state = state
        self.denial = ""
        """Value of a denial's header, ours or that of the proxy which answered."""
        self.peer_reason = ""
        """Why the other proxy answered itself."""
        self.retries: list[Retry] = []

    def retried(self, at: float, why: str, host: str, port: int) -> None:
        """An attempt has failed, and there will be another one."""
        if len(self.retries) < MAX_RETRIES:
            self.retries.append(Retry(at, why, host, port))

    def answered(self, line: str) -> None:
        """We have answered ourselves, with this field line."""
        name, _, value = line.partition(": ")
        if name == DENIAL_HEADER:
            self.denial = value

    def heard(self, fields: Fields) -> None:
        """A peer proxy has answered with these fields."""
        for name, value in fields:
            if name == _DENIAL:
                self.denial = value[:MAX_TEXT].decode("latin-1")
            elif name == _REASON:
                self.peer_reason = value[:MAX_TEXT].decode("latin-1")


class Finished:
    """A span whose request is over: all that is told of it. Texts are bounded, times are Unix nanoseconds."""

    __slots__ = (
        "agent",
        "denial",
        "downloaded",
        "edge",
        "end",
        "grpc",
        "host",
        "id",
        "method",
        "minor",
        "parent",
        "path",
        "peer_reason",
        "reason",
        "request_id",
        "retries",
        "rpc",
        "start",
        "state",
        "status",
        "to",
        "to_port",
        "trace",
        "uploaded",
    )

    def __init__(self, span: Span, edge: Edge, head: RequestHead, start: int, end: int) -> None:
        self.trace = span.trace
        self.id = span.id
        self.parent = span.parent
        self.state = b",".join(span.state)[:MAX_STATE] if span.state else b""
        self.denial = span.denial
        self.peer_reason = span.peer_reason
        self.edge = edge
        self.start = start
        self.end = end
        self.method = head.method[:MAX_TEXT]
        self.path = head.path.partition(b"?")[0][:MAX_TEXT]
        self.host = head.host[:MAX_TEXT]
        self.agent = (head.header(b"user-agent") or b"")[:MAX_TEXT]
        self.request_id = (head.header(b"x-request-id") or b"")[:MAX_TEXT]
        self.minor = head.minor
        self.status = 0
        self.reason = ""
        self.rpc = False
        self.grpc = ""
        self.uploaded = 0
        self.downloaded = 0
        self.to = ""
        self.to_port = 0
        self.retries: list[tuple[int, str, str, int]] = []
        """(time, why, host, port) of attempts that failed."""


class Tracer:
    """Makes the spans of one process. `begun` and `dropped` count them, the latter for want of room."""

    __slots__ = (
        "_bits",
        "_chance",
        "_clock",
        "_end",
        "_forms",
        "_gap",
        "_ids",
        "_share",
        "_telemetry",
        "_waiting",
        "begun",
        "dropped",
    )

    def __init__(
        self,
        share: float,
        forms: tuple[str, ...],
        telemetry: Telemetry,
        clock: Callable[[], int],
        chance: Callable[[], float],
        bits: Callable[[int], int],
    ) -> None:
        """`share` of the traces that begin here are sampled; `forms` (`smi.names.TRACE_FORMS`) tell them on.

        `clock`: Unix nanoseconds; `chance`: numbers in [0, 1); `bits`: so many random bits.
        """
        self._share = share
        self._forms = 0
        for form in forms:
            self._forms |= FORMS[form]
        self._telemetry = telemetry
        self._clock = clock
        self._chance = chance
        self._bits = bits
        # Nobody looks up what is not sampled: such ids need to differ, and to be cheap.
        self._ids = RequestIds(bits(128).to_bytes(16, "big"))
        self._end = b"-%016x-00" % (bits(64) or 1)
        self._gap = self._draw()
        self._waiting: deque[Finished] = deque()
        self.begun = 0
        self.dropped = 0

    def begin(self, head: RequestHead) -> Span | None:
        """The span of a request that is about to be sent on or answered; None if it is not sampled."""
        fields = head.trace
        if fields is not None and len(fields) == 1 and says_no(fields[0]):
            return None  # what most requests say
        context = None if fields is None else read_context(fields)
        if context is None:
            if self._gap > 0:
                self._gap -= 1
                if fields is None and self._forms == W3C:
                    head.put_no_trace(self._ids.next(), self._end)
                else:
                    head.put_trace(write_refusal(self._forms, self._bits(192)))
                return None
            self._gap = self._draw()
            context = Context(self._forms, b"", b"", True)
        elif context.sampled is None:
            if self._gap > 0:
                self._gap -= 1
                context.sampled = False
                head.put_trace(write_context(context, context.span, b""))
                return None
            self._gap = self._draw()
            context.sampled = True
        elif not context.sampled:
            return None
        if not context.trace:
            context.trace = b"%032x" % (self._bits(128) or 1)
        own = b"%016x" % (self._bits(64) or 1)
        head.put_trace(write_context(context, own, context.span))
        self.begun += 1
        return Span(context.trace, own, context.span, context.state)

    def _draw(self) -> int:
        """How many requests are not sampled before the next one that is: the gaps of independent draws."""
        if self._share >= 1.0:
            return 0
        if self._share <= 0.0:
            return _NEVER
        return min(int(log(1.0 - self._chance()) / log(1.0 - self._share)), _NEVER)

    def finish(
        self,
        span: Span,
        series: HttpSeries,
        head: RequestHead,
        status: int,
        reason: str,
        grpc: str,
        rpc: bool,
        began: float,
        now: float,
        uploaded: int = 0,
        downloaded: int = 0,
        to: str = "",
        to_port: int = 0,
    ) -> None:
        """The request is over. `began`, `now`: `perf_counter`; `to`: the address it went to.

        The rest is as `HttpSeries.observe` counts it; `rpc`: it is a gRPC call. `status` 0: there was none.
        """
        # Much may have happened since `now`: what is asked together is what `perf_counter` is in Unix time.
        since = self._clock() - int(perf_counter() * _NS)
        end = since + int(now * _NS)
        series.show((status, reason, grpc), span.trace.decode("ascii"), now - began, end / _NS)
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        edge = self._telemetry.edge(series)
        done = Finished(span, edge, head, since + int(began * _NS), end)
        done.status = status
        done.reason = reason
        done.rpc = rpc
        done.grpc = grpc
        done.uploaded = uploaded
        done.downloaded = downloaded
        done.to = to
        done.to_port = to_port
        for retry in span.retries:
            done.retries.append((since + int(retry.at * _NS), retry.why, retry.host, retry.port))
        self._waiting.append(done)

    @property
    def waiting(self) -> int:
        """Finished spans nobody has taken yet."""
        return len(self._waiting)

    def take(self, most: int) -> list[Finished]:
        """At most so many of them, the oldest first."""
        found: list[Finished] = []
        while self._waiting and len(found) < most:
            found.append(self._waiting.popleft())
        return found
