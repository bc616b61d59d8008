"""Live requests for somebody who looks on: `kubectl traffic tap`.

Nobody looking costs nothing: exchanges reach `see` on the way that exemplars take, which an exchange leaves
after one comparison of its series' `exemplar_due`. While somebody looks, that is held at 0. What is kept is
bounded in number, rate, size and time; what does not fit is counted as dropped. Queries of paths are never
shown. Knows no sockets; the clock is Unix time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dataplane.accesslog import AccessLog
from dataplane.telemetry import Edge, HttpSeries, Telemetry
from smi.names import Workload
from smi.policy.match import Request

MAX_TAPS: Final = 4
MAX_SECONDS: Final = 600.0
MAX_RATE: Final = 100
"""Requests a second that one tap may take."""
MAX_TEXT: Final = 200
"""Bytes of a method or path that are shown."""
_UNKNOWN: Final = Edge("", "", "", "")


@dataclass(frozen=True, slots=True)
class TapFilter:
    """What to show; an empty text lets everything through."""

    direction: str = ""
    """`inbound` or `outbound`."""
    method: str = ""
    path: str = ""
    """How the path begins."""
    status: str = ""
    """A status such as `503`, or its class `5xx`."""
    peer: str = ""
    """Name of the other side's pod, workload, service or namespace, or `namespace/name` of it."""

    def passes(self, edge: Edge, method: str, path: str, status: int) -> bool:
        """Whether an exchange is to be shown."""
        if self.direction and self.direction != edge.direction:
            return False
        if self.method and self.method != method:
            return False
        if self.path and not path.startswith(self.path):
            return False
        if self.status and self.status not in (str(status), f"{status // 100}xx"):
            return False
        return not self.peer or self.peer in _names(edge)


def _names(edge: Edge) -> set[str]:
    namespace, _, pod = edge.pod.partition("/")
    service = edge.backend or edge.service
    workload = Workload.parse(edge.workload).name
    return {namespace, edge.pod, pod, workload, f"{namespace}/{workload}", service, service.partition("/")[2]}


@dataclass(slots=True)
class _Taken:
    """One tap and what it has taken since it was last collected."""

    wanted: TapFilter
    rate: int
    until: float
    second: int = 0
    in_second: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0


class Tap:
    """All taps of this proxy, and its access log. `active` says whether there is any."""

    __slots__ = ("_clock", "_edges", "_taps", "_telemetry", "active", "log")

    def __init__(
        self,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        log: AccessLog | None = None,
    ) -> None:
        """Without telemetry (a test, a benchmark) nothing is ever seen."""
        self.active = log is not None
        self.log = log
        self._telemetry = telemetry
        self._clock = clock
        self._taps: dict[str, _Taken] = {}
        self._edges: dict[int, Edge] = {}

    @property
    def watched(self) -> bool:
        """Whether there is any tap."""
        return bool(self._taps)

    def start(self, name: str, wanted: TapFilter, seconds: float, rate: int) -> bool:
        """Begin, or begin anew, for `seconds`; False if there are too many taps."""
        if name not in self._taps and len(self._taps) >= MAX_TAPS:
            return False
        rate, seconds = max(1, min(rate, MAX_RATE)), min(seconds, MAX_SECONDS)
        self._taps[name] = _Taken(wanted, rate, self._clock() + seconds)
        self.active = True
        if self._telemetry is not None:
            for _, series in self._telemetry.http_edges():
                series.exemplar_due = 0.0
        return True

    def stop(self, name: str) -> None:
        """End one tap; unknown names are fine."""
        self._taps.pop(name, None)
        self.active = bool(self._taps) or self.log is not None
        if not self.active:
            self._edges.clear()

    def clear(self) -> None:
        """End all."""
        for name in list(self._taps):
            self.stop(name)

    def see(
        self,
        series: HttpSeries,
        head: Request,
        status: int,
        reason: str,
        grpc: str,
        seconds: float,
    ) -> None:
        """One finished exchange; to be called while `active`."""
        series.exemplar_due = 0.0
        edge = self._edge(series)
        if self.log is not None:
            self.log.see(edge, head, status, reason, grpc, seconds)
        if not self._taps:
            return
        verb = head.method[:MAX_TEXT].decode("latin-1")
        shown = head.path.partition(b"?")[0][:MAX_TEXT].decode("latin-1")
        now = self._clock()
        for taken in self._taps.values():
            if not taken.wanted.passes(edge, verb, shown, status):
                continue
            if taken.second != int(now):
                taken.second, taken.in_second = int(now), 0
            taken.in_second += 1
            if taken.in_second > taken.rate:
                taken.dropped += 1
            else:
                taken.requests.append(_request(edge, verb, shown, status, reason, grpc, seconds, now))

    def collect(self) -> list[tuple[str, list[dict[str, Any]], int]]:
        """(tap, requests, dropped) since the last time; ends taps whose time is over."""
        now, found = self._clock(), []
        for name, taken in list(self._taps.items()):
            if taken.requests or taken.dropped:
                found.append((name, taken.requests, taken.dropped))
                taken.requests, taken.dropped = [], 0
            if now >= taken.until:
                self.stop(name)
        return found

    def _edge(self, series: HttpSeries) -> Edge:
        known = self._edges.get(id(series))
        if known is None and self._telemetry is not None:
            self._edges = {id(one): edge for edge, one in self._telemetry.http_edges()}
            known = self._edges.setdefault(id(series), _UNKNOWN)
        return known or _UNKNOWN


def _request(
    edge: Edge, method: str, path: str, status: int, reason: str, grpc: str, seconds: float, now: float
) -> dict[str, Any]:
    return {
        "time": round(now, 3),
        "direction": edge.direction,
        "peer": edge.pod,
        "workload": edge.workload,
        "identity": edge.peer,
        "service": edge.service,
        "backend": edge.backend,
        "split": edge.split,
        "method": method,
        "path": path,
        "status": status,
        "reason": reason,
        "grpc": grpc,
        "ms": round(seconds * 1000, 3),
    }


def read_filter(message: Mapping[str, Any]) -> TapFilter:
    """From a message of the controller; what is no text counts as not given."""
    given = message.get("filter")
    texts = given if isinstance(given, dict) else {}

    def text(key: str) -> str:
        value = texts.get(key, "")
        return value[:MAX_TEXT] if isinstance(value, str) else ""

    return TapFilter(text("direction"), text("method"), text("path"), text("status"), text("peer"))
