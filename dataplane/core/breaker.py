"""What this process has under way to one port of a Service, and which of its endpoints it leaves out. (R16)

A `Breaker` belongs to a cluster whose Service says what a caller may have under way. Its endpoints are
`Member`s; a request or connection holds a `Lease` on one, which counts wherever it must be counted.
Where no Service says anything none of this exists. Pure: the clock is the caller's, and what is to
happen a little later is handed to `defer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from dataplane.core.balance import Load
from dataplane.core.rates import parts
from smi.policy.snapshot import CircuitBreaker, Outliers

LEAST_RETRIES: Final = 3
"""Retries at a time that a retry budget always allows (Envoy's default as well)."""
_GATEWAY: Final = frozenset({502, 503, 504})
_GRPC: Final[Mapping[str, int]] = {"2": 500, "4": 504, "13": 500, "14": 503, "15": 500}
"""gRPC statuses that are the server's failures, as HTTP statuses (http-grpc-status-mapping.md, reversed)."""


class Kind(StrEnum):
    """How something goes to a server."""

    REQUEST = "request"
    """On an HTTP/1.1 connection of its own."""
    STREAM = "stream"
    """On an HTTP/2 connection, beside others."""
    OPAQUE = "opaque"


class Entry(StrEnum):
    """May one more begin? The thresholds have their annotation's names."""

    PASS = "pass"
    WAIT = "wait"
    CONNECTIONS = "max-connections"
    PENDING = "max-pending-requests"
    REQUESTS = "max-requests"
    RETRIES = "max-retries"


def status_of(status: int, grpc: str) -> int:
    """The HTTP status that an answer with this `grpc-status` ("": none) comes to."""
    return _GRPC.get(grpc, status)


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A request that waits for a connection: `go` is called once, when `lease` counts it already."""

    lease: Lease
    go: Callable[[], None]


class Breaker:
    """One cluster's, in this process."""

    __slots__ = (
        "_defer",
        "_on_ejected",
        "_queue",
        "connections",
        "ejections",
        "key",
        "members",
        "rejected",
        "requests",
        "retries",
        "settings",
    )

    def __init__(
        self,
        key: str,
        settings: CircuitBreaker,
        defer: Callable[[Callable[[], None]], object],
        on_ejected: Callable[[Member, float], None],
    ) -> None:
        """`key`: of the cluster. `on_ejected(member, seconds)`: one is left out for so long."""
        self.key = key
        self.settings = settings
        self._defer = defer
        self._on_ejected = on_ejected
        self._queue: deque[Waiting] = deque()
        self.members: tuple[Member, ...] = ()
        """The cluster's endpoints, as `Router` last saw them."""
        self.connections = 0
        self.requests = 0
        self.retries = 0
        """Under way, of each."""
        self.rejected: dict[Entry, int] = {}
        self.ejections = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return len(self._queue)

    def levels(self) -> Iterator[tuple[Entry, int, int]]:
        """(threshold, how much of it is in use, the threshold) for each that is set."""
        settings = self.settings
        for entry, used, most in (
            (Entry.CONNECTIONS, self.connections, settings.max_connections),
            (Entry.PENDING, self.waiting, settings.max_pending),
            (Entry.REQUESTS, self.requests, settings.max_requests),
            (Entry.RETRIES, self.retries, self._most_retries()),
        ):
            if most is not None:
                yield entry, used, most

    # --- thresholds --------------------------------------------------------------------------------

    def enter(self, kind: Kind) -> Entry:
        """PASS: hold a lease now. WAIT: for `wait`. Else the threshold that refuses it, which is counted."""
        settings = self.settings
        most = settings.max_requests
        if most is not None and kind is not Kind.OPAQUE and self.requests >= most:
            return self._reject(Entry.REQUESTS)
        most = settings.max_connections
        if most is None or kind is Kind.STREAM:
            return Entry.PASS
        free = self.connections < most
        if kind is Kind.OPAQUE:
            return Entry.PASS if free else self._reject(Entry.CONNECTIONS)
        if free and not self._queue:
            return Entry.PASS
        if len(self._queue) >= (settings.max_pending or 0):
            return self._reject(Entry.PENDING)
        return Entry.WAIT

    def wait(self, waiting: Waiting) -> None:
        """Put one last in the queue."""
        self._queue.append(waiting)

    def leave(self, waiting: Waiting) -> None:
        """It waits no longer; harmless for one whose turn has come."""
        if waiting in self._queue:
            self._queue.remove(waiting)

    def admit(self) -> None:
        """Let those go whose turn has come."""
        while self._queue and self._free():
            waiting = self._queue.popleft()
            waiting.lease.active += 1
            waiting.go()

    def _free(self) -> bool:
        settings = self.settings
        free = settings.max_connections is None or self.connections < settings.max_connections
        return free and (settings.max_requests is None or self.requests < settings.max_requests)

    def may_retry(self) -> bool:
        """Whether one more retry may begin; if not, that is counted."""
        most = self._most_retries()
        if most is None or self.retries < most:
            return True
        self._reject(Entry.RETRIES)
        return False

    def _most_retries(self) -> int | None:
        settings = self.settings
        most = settings.max_retries
        if settings.retry_percent is not None:
            budget = max(LEAST_RETRIES, self.requests * settings.retry_percent // 100)
            most = budget if most is None else min(most, budget)
        return most

    def count(self, kind: Kind, retry: bool, change: int) -> None:
        """So many more are under way, or fewer."""
        if kind is not Kind.OPAQUE:
            self.requests += change
        if kind is not Kind.STREAM:
            self.connections += change
        if retry:
            self.retries += change
        if change < 0 and self._queue:
            self._defer(self.admit)  # later: a retry takes the place of what it follows

    def use(self, settings: CircuitBreaker) -> None:
        """Other thresholds, from now on."""
        self.settings = settings
        if settings.outliers is None:
            for member in self.members:
                member.ejected = False
        self._defer(self.admit)

    def _reject(self, entry: Entry) -> Entry:
        self.rejected[entry] = self.rejected.get(entry, 0) + 1
        return entry

    # --- outliers ----------------------------------------------------------------------------------

    @property
    def ejected(self) -> int:
        """Endpoints that are left out."""
        return sum(member.ejected for member in self.members)

    def eject(self, member: Member, outliers: Outliers, now: float) -> bool:
        """Leave an endpoint out for a while, unless too many are already."""
        already = self.ejected
        if already and (already + 1) * 100 > outliers.max_percent * len(self.members):
            return False
        member.ejections += 1
        seconds = min(outliers.base_seconds * member.ejections, outliers.max_seconds)
        member.ejected = True
        member.changes_at = now + seconds
        self.ejections += 1
        self._on_ejected(member, seconds)
        return True

    def sweep(self, now: float) -> None:
        """Take back whose time is over. Who then stays well for as long as the first time forgets one."""
        outliers = self.settings.outliers
        for member in self.members:
            if (member.ejected or member.ejections) and now >= member.changes_at:
                if not member.ejected:
                    member.ejections -= 1
                member.ejected = False
                member.changes_at = now + (0.0 if outliers is None else outliers.base_seconds)


class Member(Load):
    """One endpoint of a cluster that has a breaker. As a Load it is what balancing looks at."""

    __slots__ = (
        "_errors",
        "_gateway_errors",
        "_leases",
        "_unreachable",
        "breaker",
        "changes_at",
        "ejected",
        "ejections",
        "name",
    )

    def __init__(self, breaker: Breaker, name: str) -> None:
        """`name`: its pod, or its address."""
        self.breaker = breaker
        self.name = name
        self.active = 0
        self._unreachable = False
        self.ejected = False
        self.ejections = 0
        """How often lately."""
        self.changes_at = 0.0
        """When it is taken back, or else forgets one ejection."""
        self._errors = 0
        self._gateway_errors = 0
        self._leases: dict[tuple[Kind, bool], Lease] = {}

    @property
    def suspect(self) -> bool:
        """Taken only when there is nothing better."""
        return self._unreachable or self.ejected

    @suspect.setter
    def suspect(self, unreachable: bool) -> None:
        self._unreachable = unreachable

    def lease(self, kind: Kind, *, retry: bool = False) -> Lease:
        """What those that go there in this manner are counted on; the same one each time."""
        found = self._leases.get((kind, retry))
        if found is None:
            found = self._leases[kind, retry] = Lease(self, kind, retry)
        return found

    def ended(self, status: int, now: float) -> None:
        """An exchange came to this HTTP status, its own or one of ours (502, 503, 504)."""
        outliers = self.breaker.settings.outliers
        if outliers is None or self.ejected:
            return
        if status < 500:
            self._errors = self._gateway_errors = 0
            return
        self._errors += 1
        self._gateway_errors = self._gateway_errors + 1 if status in _GATEWAY else 0
        too_many = _reached(self._errors, outliers.consecutive_errors) or _reached(
            self._gateway_errors, outliers.consecutive_gateway_errors
        )
        if too_many and self.breaker.eject(self, outliers, now):
            self._errors = self._gateway_errors = 0


def _reached(errors: int, most: int | None) -> bool:
    return most is not None and errors >= most


class Lease(Load):
    """Counts what goes to one endpoint in one manner. Who sends there counts on it as on any Load."""

    __slots__ = ("_held", "kind", "member", "retry")

    def __init__(self, member: Member, kind: Kind, retry: bool) -> None:
        self._held = 0
        self.member = member
        self.kind = kind
        self.retry = retry

    @property
    def active(self) -> int:
        """Under way in this manner."""
        return self._held

    @active.setter
    def active(self, value: int) -> None:
        change = value - self._held
        self._held = value
        self.member.active += change
        self.member.breaker.count(self.kind, self.retry, change)

    @property
    def suspect(self) -> bool:
        """The endpoint's own."""
        return self.member.suspect

    @suspect.setter
    def suspect(self, unreachable: bool) -> None:
        self.member.suspect = unreachable

    def ended(self, status: int, now: float) -> None:
        """As `Member.ended`."""
        self.member.ended(status, now)

    def may_retry(self) -> bool:
        """As `Breaker.may_retry`."""
        return self.member.breaker.may_retry()

    def again(self) -> Lease:
        """The same manner, as a retry."""
        return self.member.lease(self.kind, retry=True)


class Breakers:
    """Those of all clusters that have one."""

    __slots__ = ("_by_key", "_defer", "_on_ejected", "_processes", "_wanted")

    def __init__(
        self,
        defer: Callable[[Callable[[], None]], object],
        on_ejected: Callable[[Member, float], None],
        processes: int = 1,
    ) -> None:
        """`processes`: how many of them share each threshold."""
        self._defer = defer
        self._on_ejected = on_ejected
        self._processes = processes
        self._wanted: Mapping[str, CircuitBreaker] = {}
        self._by_key: dict[str, Breaker] = {}

    def __iter__(self) -> Iterator[Breaker]:
        return iter(tuple(self._by_key.values()))

    def use(self, wanted: Mapping[str, CircuitBreaker]) -> bool:
        """The config has changed; whether these have. What is under way stays counted."""
        if wanted == self._wanted:
            return False
        self._wanted = dict(wanted)
        for key in self._by_key.keys() - wanted.keys():
            self._by_key.pop(key).use(CircuitBreaker())
        for key, settings in wanted.items():
            share = shared(settings, self._processes)
            known = self._by_key.get(key)
            if known is None:
                self._by_key[key] = Breaker(key, share, self._defer, self._on_ejected)
            elif known.settings != share:
                known.use(share)
        return True

    def of(self, key: str) -> Breaker | None:
        """The breaker of a cluster."""
        return self._by_key.get(key)

    def sweep(self, now: float) -> None:
        """To be called now and then."""
        for breaker in self._by_key.values():
            breaker.sweep(now)


def shared(settings: CircuitBreaker, processes: int) -> CircuitBreaker:
    """What one of several processes may have of a breaker's thresholds."""
    if processes == 1:
        return settings
    return replace(
        settings,
        max_connections=_part(settings.max_connections, processes),
        max_pending=_part(settings.max_pending, processes),
        max_requests=_part(settings.max_requests, processes),
        max_retries=_part(settings.max_retries, processes),
    )


def _part(count: int | None, processes: int) -> int | None:
    return parts(count, processes) if count else count
