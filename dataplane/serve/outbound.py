"""The app's own connections: where they go, and how they are treated on the way.

An intercepted connection's destination is asked of the kernel and looked up (or subscribed to);
what is spoken follows from the manifests or from the first bytes. A connection to the listener
itself is an explicit proxy's: each request names its destination (S4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from dataplane.core.balance import Ceiling
from dataplane.core.breaker import Breaker, Entry, Kind, Lease, Member, Waiting
from dataplane.core.inbound import spoken_as
from dataplane.core.openings import First, Openings
from dataplane.core.outbound import NoRoute, Plan, Router
from dataplane.core.outcome import Outcome, Reply, failed
from dataplane.core.retry import MAX_CONNECTS
from dataplane.serve.gate import Decision, HandOver, Refusal, Serving, Way
from dataplane.serve.hold import Hold
from dataplane.serve.http_any import Opening
from dataplane.serve.pool import ConnectFailed, Peers, avoid
from dataplane.serve.server_names import ServerNames
from dataplane.serve.sniffer import Sniffer
from dataplane.serve.sockets import Accepted, Address, Original, reset
from dataplane.serve.tunnel import Tally, Tunnel
from dataplane.state import NotKnown, State, Target
from dataplane.telemetry import HttpSeries, Labels, Telemetry
from dataplane.wire.authority import Authority, parse_authority, split_absolute
from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import RequestHead
from dataplane.wire.http2.heads import StreamRequest
from smi.policy.path import BadTarget, normalise_target
from smi.policy.snapshot import Protocol

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection Established\r\n\r\n"
_MAX_WAYS: Final = 4096
_MAX_OPENINGS: Final = 4096
_FOR_A_PROXY: Final = frozenset({b"proxy-authorization"})

_log = logging.getLogger("dataplane.outbound")


class Outbound:
    """The outbound side of one proxy. `own`: its listeners' addresses, where no request may go."""

    def __init__(
        self,
        serving: Serving,
        state: State,
        router: Router,
        peers: Peers,
        telemetry: Telemetry,
        own: frozenset[Address],
        original: Original,
    ) -> None:
        self.serving = serving
        self.state = state
        self._router = router
        self._peers = peers
        self._telemetry = telemetry
        self._own = own
        self._original = original
        self._ways: dict[Plan, Way] = {}
        self._stream_ways: dict[Plan, Way] = {}
        """Those of HTTP/2 requests to clusters with a circuit breaker, which are counted in another way."""
        self._ceiling = Ceiling(serving.limits.requests_outbound, router.active)
        self.waiting = Hold(serving, state, router)
        self._names = ServerNames(telemetry, "outbound")
        self.openings = Openings(_MAX_OPENINGS, serving.limits.remembered)

    def accept(self) -> asyncio.Protocol:
        """The protocol of a newly accepted connection."""
        return Accepted(self.begin)

    # --- connections -------------------------------------------------------------------------------

    def begin(self, transport: asyncio.Transport) -> None:
        """A connection was accepted."""
        original = self._original(transport)
        if original is None:
            Opening(self.serving, _Explicit(self)).adopt(transport)
        else:
            self.serve(transport, Authority(*original), b"")

    def serve(self, transport: asyncio.Transport, to: Authority, data: bytes) -> None:
        """Serve a connection that is meant for `to`, of which `data` was read already."""
        if (to.host, to.port) in self._own:
            reset(transport)
            return
        target = self.state.lookup(to.key)
        if target is not None:
            self._treat(transport, to, target, data)
            return
        waiting = _Waiting(data)
        waiting.adopt(transport)
        self.serving.tasks.start("look up", self._look_up(waiting, to))

    async def _look_up(self, waiting: _Waiting, to: Authority) -> None:
        try:
            target = await self.state.require(to.key, self.serving.limits.lookup)
        except NotKnown as unknown:
            _log.warning("connection refused: %s", unknown)
            self._telemetry.tcp_open("outbound", "", "", "").close(0, 0, 0.0, Outcome.UNKNOWN.reason)
            if not waiting.lost:
                reset(waiting.transport)
            return
        if not waiting.lost:
            self._treat(waiting.transport, to, target, waiting.data)

    def _treat(self, transport: asyncio.Transport, to: Authority, target: Target, data: bytes) -> None:
        """HTTP, opaque, or to be found out."""
        destination = target.destination
        http = spoken_as(destination.protocol) if destination.cluster is not None else False
        if http is None:
            limits = self.serving.limits
            first = self.openings.recall((to.key, destination.service), self.serving.loop.time())
            head_start, silence = limits.head_start, limits.sniff
            if first is First.REQUEST:  # a slow or idle client is no reason to take it for another kind
                head_start = silence = limits.request_head
            elif first is First.SERVER:
                head_start = 0.0
            Sniffer(head_start, silence, _Sides(self, to, target)).adopt(transport, data)
        elif http:
            Opening(self.serving, _Intercepted(self, to)).adopt(transport, data)
        else:
            self.relay(transport, to, target, data)

    def plan_opaque(self, to: Authority, target: Target) -> Plan | NoRoute:
        """One decision per connection (S13)."""
        if target.destination.cluster is None:
            plan: Plan | NoRoute = self._router.direct(to.host, to.port)
        else:
            plan = self._router.plan(target, None)
        if isinstance(plan, Plan):
            guard = plan.guard
            refused = guard is not None and guard.breaker.enter(Kind.OPAQUE) is not Entry.PASS
            if refused or self._too_many(plan):
                return NoRoute(Outcome.OVERFLOW, "", plan.service, plan.backend)
        return plan

    def relay(self, transport: asyncio.Transport, to: Authority, target: Target, data: bytes) -> None:
        """Relay opaque bytes."""
        plan = self.plan_opaque(to, target)
        if isinstance(plan, NoRoute):
            self._telemetry.tcp_open(*_nowhere(plan)).close(0, 0, 0.0, plan.outcome.reason)
            reset(transport)
            return
        tally = self.tally(plan).begin()
        tunnel = Tunnel(self.serving.registry, self.serving.limits, tally.closed)
        self.join(transport, to, target, data, tunnel)
        self.connect(tunnel, plan, to)

    def tally(self, plan: Plan) -> Tally:
        """What a tunnel to this endpoint is counted under."""
        return Tally(self._telemetry, _labels(plan))

    def join(
        self, transport: asyncio.Transport, to: Authority, target: Target, data: bytes, tunnel: Tunnel
    ) -> None:
        """Give a tunnel its client."""
        destination = target.destination
        if destination.protocol is Protocol.TCP:
            tunnel.client.adopt(transport, data)
        else:
            self._names.listen(transport, data, tunnel.client, destination.service or "", to.key)
        transport.resume_reading()

    def connect(self, tunnel: Tunnel, plan: Plan, to: Authority) -> None:
        """Begin to give a tunnel its server."""
        if plan.guard is None:
            self.serving.tasks.start("connect", self._connect(tunnel, plan, to))
        else:
            lease = plan.guard.lease(Kind.OPAQUE)
            lease.active += 1  # until the tunnel itself counts, on whichever endpoint it gets
            self.serving.tasks.start("connect", self._connect_guarded(tunnel, plan, to, lease))

    async def _connect_guarded(self, tunnel: Tunnel, plan: Plan, to: Authority, lease: Lease) -> None:
        try:
            await self._connect(tunnel, plan, to)
        finally:
            lease.active -= 1

    async def _connect(self, tunnel: Tunnel, plan: Plan, to: Authority) -> None:
        """Connect a tunnel, to another endpoint if the first cannot be reached."""
        tried: list[Plan] = []
        current: Plan | None = plan
        outcome = Outcome.NO_ENDPOINT
        connects = turn = 0
        while current is not None and not tunnel.client.lost:
            try:
                await self._peers.connect(current, lambda: tunnel.server)
            except ConnectFailed as failure:
                avoid(current.load, self.serving.limits.suspect)
                if current.guard is not None:
                    current.guard.ended(Outcome.CONNECT_FAILED.status, self.serving.registry.now)
                outcome = failure.outcome
                tried.append(current)
                connects += 1
                other = self._router.another(plan, tried) if plan.cluster else None
                if other is None or connects >= MAX_CONNECTS:
                    other = None
                    if self.waiting.admits(plan, turn):
                        other = await self.waiting.another(None, to.key, plan, tried, turn)
                        connects = 0
                        turn += 1
                        if other is not None and any(one.load is other.load for one in tried):
                            tried = []  # another round of the same endpoints
                current = other
            else:
                current.load.suspect = False
                if current.guard is None:
                    tunnel.weigh_on(current.load)
                else:
                    current.guard.ended(200, self.serving.registry.now)
                    tunnel.weigh_on(current.guard.lease(Kind.OPAQUE))
                return
        tunnel.failed(outcome.reason)

    # --- requests ----------------------------------------------------------------------------------

    def route(self, head: RequestHead, to: Authority) -> Decision | Coroutine[Any, Any, Decision]:
        """Decide where a request meant for `to` goes. Its head is normal already."""
        if self.serving.pressure.shedding:
            return self.refuse(failed(Outcome.OVERLOAD))
        target = self.state.lookup(to.key)
        if target is None:
            return self._route_later(head, to)
        return self._route(head, to, target)

    async def _route_later(self, head: RequestHead, to: Authority) -> Decision:
        try:
            target = await self.state.require(to.key, self.serving.limits.lookup)
        except NotKnown as unknown:
            return self.refuse(failed(Outcome.UNKNOWN, str(unknown)))
        decision = self._route(head, to, target)
        return await decision if isinstance(decision, Coroutine) else decision

    def _route(
        self, head: RequestHead, to: Authority, target: Target
    ) -> Decision | Coroutine[Any, Any, Decision]:
        if target.destination.cluster is None:
            if (to.host, to.port) in self._own:
                return self.refuse(failed(Outcome.LOOP))
            way = self._way(self._router.direct(to.host, to.port))
            assert way.plan is not None
            return Refusal(failed(Outcome.OVERFLOW), way.series) if self._too_many(way.plan) else way
        plan = self._router.plan(target, head)
        if isinstance(plan, NoRoute):
            series = self._telemetry.http_series(*_nowhere(plan))
            return Refusal(failed(plan.outcome, plan.detail), series)
        if plan.guard is not None:
            return self._guarded(plan, plan.guard, isinstance(head, StreamRequest))
        way = self._ways.get(plan) or self._way(plan)
        if self._too_many(plan):
            return Refusal(failed(Outcome.OVERFLOW), way.series)
        return way

    def _guarded(self, plan: Plan, guard: Member, stream: bool) -> Decision | Coroutine[Any, Any, Decision]:
        """The same where a circuit breaker has a say."""
        way = self._way(plan, stream)
        breaker = guard.breaker
        if self._too_many(plan):
            return Refusal(failed(Outcome.OVERFLOW), way.series)
        entry = breaker.enter(Kind.STREAM if stream else Kind.REQUEST)
        if entry is Entry.PASS:
            return way
        if entry is Entry.WAIT:
            return self._wait_for_turn(way, guard.lease(Kind.REQUEST), breaker)
        return _overflow(breaker, entry, way)

    def _wait_for_turn(self, way: Way, lease: Lease, breaker: Breaker) -> Coroutine[Any, Any, Decision]:
        """Stand in line at once, and wait there for one of the connections a breaker allows."""
        turn: asyncio.Future[None] = self.serving.loop.create_future()

        def go() -> None:
            if turn.done():  # too late: it is about to leave
                lease.active -= 1
            else:
                turn.set_result(None)

        waiting = Waiting(lease, go)
        breaker.wait(waiting)
        return self._turn(way, breaker, waiting, turn)

    async def _turn(
        self, way: Way, breaker: Breaker, waiting: Waiting, turn: asyncio.Future[None]
    ) -> Decision:
        try:
            async with asyncio.timeout(self.serving.limits.pending):
                await turn
        except TimeoutError:
            return _overflow(breaker, Entry.CONNECTIONS, way)
        finally:
            breaker.leave(waiting)
            if turn.done() and not turn.cancelled():
                waiting.lease.active -= 1  # whoever gets the way counts on it at once, or has gone
        return way

    def _too_many(self, plan: Plan) -> bool:
        """Whether one more is; asked once for each."""
        return plan.load.active >= self.serving.limits.requests_per_endpoint or self._ceiling.full()

    def again(self, way: Way, tried: Sequence[Way]) -> Way | None:
        """A way to another endpoint of the same backend."""
        plan = way.plan
        if plan is None or not plan.cluster:
            return None
        other = self._router.another(plan, [one.plan for one in tried if one.plan is not None])
        stream = way.guard is not None and way.guard.kind is Kind.STREAM
        return None if other is None else self._way(other, stream)

    def hold(
        self, head: RequestHead, to: Authority, way: Way, tried: Sequence[Way], turn: int
    ) -> Coroutine[Any, Any, Way | None] | None:
        """Wait for a way to try next, for a request meant for `to` that reached none of `tried` (S33)."""
        plan = way.plan
        if plan is None or not self.waiting.admits(plan, turn):
            return None
        return self._held(head, to, plan, [one.plan for one in tried if one.plan is not None], turn)

    async def _held(
        self, head: RequestHead, to: Authority, plan: Plan, tried: Sequence[Plan], turn: int
    ) -> Way | None:
        other = await self.waiting.another(head, to.key, plan, tried, turn)
        return None if other is None else self._way(other, isinstance(head, StreamRequest))

    def refuse(self, reply: Reply) -> Refusal:
        return Refusal(reply, self.open_series())

    def open_series(self) -> HttpSeries:
        """Counts CONNECT requests."""
        return self._telemetry.http_series("outbound", "", "", "")

    def _way(self, plan: Plan, stream: bool = False) -> Way:
        """The way to an endpoint. `stream`: of an HTTP/2 request, which a circuit breaker counts apart."""
        ways = self._stream_ways if stream and plan.guard is not None else self._ways
        way = ways.get(plan)
        if way is None:
            guard = plan.guard
            lease = None if guard is None else guard.lease(Kind.STREAM if stream else Kind.REQUEST)
            way = Way(
                self._peers.lane(plan),
                self._telemetry.http_series(*_labels(plan)),
                plan.load if lease is None else lease,
                plan,
                drop=_FOR_A_PROXY,
                to_peer=plan.endpoint.identity is not None,
                guard=lease,
            )
            if plan.cluster:  # prepared by the router, and so asked for again
                if len(ways) >= _MAX_WAYS:
                    ways.clear()
                ways[plan] = way
        return way


class _Sides:
    """What a connection to `to` can become."""

    __slots__ = ("_outbound", "_place", "_tally", "_target", "_to")

    def __init__(self, outbound: Outbound, to: Authority, target: Target) -> None:
        self._outbound = outbound
        self._to = to
        self._target = target
        self._place = to.key, target.destination.service
        self._tally: Tally | None = None

    def call(self, heard: Callable[[bool], None]) -> Tunnel | None:
        outbound = self._outbound
        plan = outbound.plan_opaque(self._to, self._now())
        if isinstance(plan, NoRoute):
            return None
        self._tally = outbound.tally(plan)
        tunnel = Tunnel(outbound.serving.registry, outbound.serving.limits, self._tally.closed, heard)
        outbound.connect(tunnel, plan, self._to)
        return tunnel

    def request(self, transport: asyncio.Transport, data: bytes) -> None:
        outbound = self._outbound
        outbound.openings.learn(self._place, First.REQUEST, outbound.serving.loop.time())
        Opening(outbound.serving, _Intercepted(outbound, self._to)).adopt(transport, data)

    def opaque(self, transport: asyncio.Transport, data: bytes, tunnel: Tunnel | None, greeted: bool) -> None:
        outbound = self._outbound
        if greeted:
            outbound.openings.learn(self._place, First.SERVER, outbound.serving.loop.time())
        elif data:
            outbound.openings.forget(self._place)
        if tunnel is None:
            outbound.relay(transport, self._to, self._now(), data)
            return
        if self._tally is not None:
            self._tally.begin()
        outbound.join(transport, self._to, self._now(), data, tunnel)

    def _now(self) -> Target:
        """What is behind the address by now: a silent client may have been listened to for long."""
        return self._outbound.state.lookup(self._to.key) or self._target


def _overflow(breaker: Breaker, entry: Entry, way: Way) -> Refusal:
    """A circuit breaker does not let it through."""
    service, _, port = breaker.key.rpartition(":")
    most = next((most for level, _, most in breaker.levels() if level is entry), 0)
    detail = f"{entry.value}={most} of Service {service} is reached on port {port}"
    return Refusal(failed(Outcome.OVERFLOW, detail), way.series)


def _labels(plan: Plan) -> Labels:
    """What traffic to one endpoint is counted under."""
    to = plan.endpoint
    return (
        "outbound",
        to.identity or "",
        plan.service,
        plan.backend,
        to.pod or "",
        to.workload,
        plan.split,
    )


def _nowhere(plan: NoRoute) -> Labels:
    """What traffic that nobody can take is counted under."""
    return "outbound", "", plan.service, plan.backend, "", "", plan.split


class _Waiting(asyncio.Protocol):
    """Holds a connection while the controller is asked about its destination; reads nothing meanwhile."""

    __slots__ = ("data", "lost", "transport")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.lost = False
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by adopt

    def adopt(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.pause_reading()
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True


class _Intercepted:
    """Gate of a connection whose destination the kernel knows."""

    __slots__ = ("_outbound", "_to")

    def __init__(self, outbound: Outbound, to: Authority) -> None:
        self._outbound = outbound
        self._to = to

    def decide(self, head: RequestHead) -> Decision | Coroutine[Any, Any, Decision]:
        if head.method == b"CONNECT":
            return self.refuse(failed(Outcome.NOT_IMPLEMENTED, "CONNECT is for proxies"))
        to_origin_form(head)
        return self._outbound.route(head, self._to)

    def again(self, way: Way, tried: Sequence[Way]) -> Way | None:
        return self._outbound.again(way, tried)

    def hold(
        self, head: RequestHead, way: Way, tried: Sequence[Way], turn: int
    ) -> Coroutine[Any, Any, Way | None] | None:
        return self._outbound.hold(head, self._to, way, tried, turn)

    def refuse(self, reply: Reply) -> Refusal:
        return self._outbound.refuse(reply)


class _Explicit:
    """Gate of a connection that uses the sidecar as its HTTP proxy: each request says where it goes."""

    __slots__ = ("_host", "_outbound", "_to")

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._host = b""  # most clients ask for the same host again
        self._to = Authority("", 0)

    def decide(self, head: RequestHead) -> Decision | Coroutine[Any, Any, Decision]:
        outbound = self._outbound
        if head.method == b"CONNECT":
            to = parse_authority(head.target, 0)
            return HandOver(
                _ESTABLISHED,
                lambda transport, data: outbound.serve(transport, to, data),
                outbound.open_series(),
            )
        to_origin_form(head)
        if head.host != self._host:
            self._to = parse_authority(head.host)
            self._host = head.host
        elif not head.host:
            raise BadMessage("the request does not say which host it is for")
        return outbound.route(head, self._to)

    def again(self, way: Way, tried: Sequence[Way]) -> Way | None:
        return self._outbound.again(way, tried)

    def hold(
        self, head: RequestHead, way: Way, tried: Sequence[Way], turn: int
    ) -> Coroutine[Any, Any, Way | None] | None:
        return self._outbound.hold(head, parse_authority(head.host), way, tried, turn)

    def refuse(self, reply: Reply) -> Refusal:
        return self._outbound.refuse(reply)


def to_origin_form(head: RequestHead) -> None:
    """Bring the target into its normal origin form (S19), the one matched and the one sent on.

    An absolute target's authority must agree with the Host field: servers differ in which they
    believe. Raises BadMessage.
    """
    target = head.target
    if not target.startswith(b"/"):
        absolute = split_absolute(target)
        if absolute is not None:
            authority, target = absolute
            if head.host and parse_authority(head.host) != parse_authority(authority):
                raise BadMessage("the target and the host field name different hosts")
            head.host = head.host or authority
        elif target != b"*" or head.method != b"OPTIONS":
            raise BadMessage("the target is neither a path nor an absolute URI")
    try:
        head.path, query = normalise_target(target)
    except BadTarget as error:
        raise BadMessage(str(error)) from None
    head.target = head.path + query if query else head.path
