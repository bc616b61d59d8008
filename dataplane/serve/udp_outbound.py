"""The app's own UDP flows: where they go (S13), and the way there.

A flow is what one socket of the app sends to one address. Its first datagram decides: pass through
for what the mesh does not know, plain for a server without a sidecar, else a carrier to the peer's
mesh port. It keeps that decision while its destination may still lead there, and is decided anew
when it may not (endpoint gone, backend taken out, carrier lost). Answers go back to the app as if
from the address it sent to.
"""

from __future__ import annotations

import logging
from typing import Final

from dataplane.core.backlog import Backlog
from dataplane.core.flows import FlowTable
from dataplane.core.outbound import NoRoute, Plan, Router
from dataplane.core.outcome import Outcome
from dataplane.serve import datagrams
from dataplane.serve.carrier import Carrier
from dataplane.serve.datagrams import Conversation, Reply
from dataplane.serve.gate import Serving
from dataplane.serve.pool import ConnectFailed, Peers, avoid
from dataplane.serve.sockets import Address
from dataplane.serve.udp_series import UdpCounters, UdpSeries
from dataplane.state import NotKnown, State, Target
from dataplane.wire.datagrams import MAX_FLOW, Frame, Kind
from smi.names import UDP_KEY
from smi.policy.snapshot import Cluster, Endpoint

_DIRECTION: Final = "outbound"
_FlowKey = tuple[Address, Address]

_log = logging.getLogger("dataplane.udp")


class UdpOutbound:
    """The outbound side for UDP. `own`: the proxy's listeners, where no datagram may go."""

    def __init__(
        self,
        serving: Serving,
        state: State,
        router: Router,
        peers: Peers,
        counters: UdpCounters,
        own: frozenset[Address],
        reply: Reply,
        idle: float,
    ) -> None:
        self.serving = serving
        self.state = state
        self.counters = counters
        self._reply = reply
        self.router = router
        self._peers = peers
        self._own = own
        self._flows: FlowTable[_FlowKey, _Flow] = FlowTable(serving.limits.udp_flows, idle)
        limits = serving.limits
        self._backlog: Backlog[_Flow] = Backlog(
            limits.udp_waiting, limits.udp_waiting_bytes, limits.udp_waiting_total
        )
        self._links: dict[Endpoint, _Link] = {}
        self._open: set[_Link] = set()
        serving.registry.on_tick(self._tick)

    def __len__(self) -> int:
        return len(self._flows)

    def received(self, client: Address, to: Address, payload: bytes) -> None:
        """A datagram of the app, meant for `to`."""
        flow = self._flows.get((client, to))
        if flow is None:
            flow = self._begin(client, to)
            if flow is None:
                return
        flow.used = self.serving.registry.now
        if flow.waiting:
            self.drop(datagrams.QUEUE_FULL, self._backlog.push(flow, payload))
        elif self._still_holds(flow) or self._route(flow):
            self._send(flow, payload)

    def close(self) -> None:
        for flow in self._flows:
            flow.leave()
        for link in tuple(self._open):
            link.carrier.abort()

    def drop(self, reason: str, count: int = 1) -> None:
        self.counters.drop(_DIRECTION, reason, count)

    def unlink(self, link: _Link) -> None:
        """A carrier is gone: its flows find another way with their next datagram."""
        self._open.discard(link)
        if self._links.get(link.plan.endpoint) is link:
            del self._links[link.plan.endpoint]

    # --- flows -------------------------------------------------------------------------------------

    def _begin(self, client: Address, to: Address) -> _Flow | None:
        if to in self._own:
            self.drop(datagrams.LOOP)
            return None
        if self._flows.full:
            self.drop(datagrams.FLOW_TABLE_FULL)
            return None
        flow = _Flow(client, to)
        self._flows.add((client, to), flow)
        if self.state.lookup(flow.key) is None:
            flow.waiting = True
            self.serving.tasks.start("look up UDP", self._look_up(flow))
        return flow

    async def _look_up(self, flow: _Flow) -> None:
        try:
            await self.state.require(flow.key, self.serving.limits.lookup)
        except NotKnown as unknown:
            _log.warning("datagrams dropped: %s", unknown)
            self._give_up(flow)
            return
        if self._flows.get((flow.client, flow.to)) is not flow:  # it expired first: nobody would end its way
            self._give_up(flow)
            return
        flow.waiting = False
        for payload in self._backlog.take(flow):
            if self._still_holds(flow) or self._route(flow):
                self._send(flow, payload)

    def _give_up(self, flow: _Flow) -> None:
        """Nothing comes of a flow that waits."""
        self.drop(Outcome.UNKNOWN.reason, len(self._backlog.take(flow)))
        if self._flows.get((flow.client, flow.to)) is flow:
            self._forget(flow)

    def _send(self, flow: _Flow, payload: bytes) -> None:
        flow.series.out(payload)
        if flow.link is not None:
            flow.link.carrier.send(flow.number, payload)
        elif flow.plain is not None:
            reason = flow.plain.send(payload)
            if reason:
                self.drop(reason)

    # --- ways --------------------------------------------------------------------------------------

    def _still_holds(self, flow: _Flow) -> bool:
        """Whether the flow has a way, and its destination may still lead there."""
        plan = flow.plan
        if plan is None:
            return False
        target = self.state.lookup(flow.key)
        cluster = self.state.cluster(plan.cluster)
        if target is None or (target is flow.target and cluster is flow.cluster):
            return True  # None: given up and not yet asked for again; the last answer holds
        holds = plan.cluster in _leads_to(target) and (not plan.cluster or plan.endpoint in cluster)
        if holds:
            flow.target, flow.cluster = target, cluster
        return holds

    def _route(self, flow: _Flow) -> bool:
        """Decide where the flow goes; False if nowhere: then the datagram is dropped and counted."""
        flow.leave()
        target = self.state.lookup(flow.key)
        if target is None:
            self.drop(Outcome.UNKNOWN.reason)
            return self._forget(flow)
        plan: Plan | NoRoute
        if target.destination.cluster is None:
            plan = self.router.direct(*flow.to)
        else:
            plan = self.router.plan(target, None)
        if isinstance(plan, NoRoute):
            self.drop(plan.outcome.reason)
            return self._forget(flow)
        endpoint = plan.endpoint
        if endpoint.identity is not None:
            flow.carry(self._link(plan))
        elif not self._open_plain(flow, plan):
            return self._forget(flow)
        flow.plan, flow.target, flow.cluster = plan, target, self.state.cluster(plan.cluster)
        plan.load.active += 1
        flow.series = self.counters.begin(_DIRECTION, endpoint.identity or "", plan.service, plan.backend)
        return True

    def _forget(self, flow: _Flow) -> bool:
        self._flows.remove((flow.client, flow.to))
        return False

    def _open_plain(self, flow: _Flow, plan: Plan) -> bool:
        try:
            sock = datagrams.to_server(plan)
        except OSError:
            self.drop(datagrams.UNREACHABLE)
            return False
        flow.plain = Conversation(
            sock, lambda payload: self.answer(flow, payload), lambda: self.drop(datagrams.REFUSED)
        )
        return True

    def _link(self, plan: Plan) -> _Link:
        """The carrier to an endpoint; a new one after a rotation of certificates."""
        context = self._peers.udp_context
        link = self._links.get(plan.endpoint)
        if link is None or link.context is not context:
            link = self._links[plan.endpoint] = _Link(self, plan, context)
            self._open.add(link)
            self.serving.tasks.start("connect UDP", self._connect(link))
        return link

    async def _connect(self, link: _Link) -> None:
        plan = link.plan
        try:
            await self._peers.carry(plan, lambda: link.carrier)
        except ConnectFailed as failure:
            avoid(plan.load, self.serving.limits.suspect)
            link.carrier.fail(failure.outcome.reason)
            link.lost()
        else:
            plan.load.suspect = False

    def answer(self, flow: _Flow, payload: bytes) -> None:
        """A server's datagram, on its way to the app."""
        flow.used = self.serving.registry.now
        flow.series.back(payload)
        if not self._reply(flow.to, flow.client, payload):
            self.drop(datagrams.REPLY_FAILED)

    def _tick(self, now: float) -> None:
        gone = self._flows.expire(now)
        for flow in gone:
            flow.leave()
        self.counters.expired(_DIRECTION, len(gone))
        for link in tuple(self._open):
            current = self._links.get(link.plan.endpoint) is link
            link.rest(now, self.serving.limits.pool_idle if current else 0.0)


class _Flow:
    """One flow and its way, if it has one: a carrier or a socket of its own."""

    __slots__ = (
        "client",
        "cluster",
        "key",
        "link",
        "number",
        "plain",
        "plan",
        "series",
        "target",
        "to",
        "used",
        "waiting",
    )

    def __init__(self, client: Address, to: Address) -> None:
        self.client = client
        self.to = to
        self.key = f"{UDP_KEY}{to[0]}:{to[1]}"
        self.used = 0.0
        self.waiting = False
        """Its datagrams wait for the controller's answer."""
        self.plan: Plan | None = None
        self.target: Target | None = None
        self.cluster: Cluster = ()
        self.link: _Link | None = None
        self.number = 0
        self.plain: Conversation | None = None
        self.series = UdpSeries()

    def carry(self, link: _Link) -> None:
        self.link = link
        self.number = link.adopt(self)

    def leave(self) -> None:
        """Give up the way it has."""
        if self.plan is not None:
            self.plan.load.active -= 1
            self.plan = None
        if self.link is not None:
            self.link.release(self.number)
            self.link = None
        if self.plain is not None:
            self.plain.close()
            self.plain = None


class _Link:
    """A carrier to one endpoint and the flows on it."""

    __slots__ = ("_flows", "_idle_since", "_last", "_outbound", "carrier", "context", "plan")

    def __init__(self, outbound: UdpOutbound, plan: Plan, context: object) -> None:
        self.plan = plan
        self.context = context
        self._outbound = outbound
        self._flows: dict[int, _Flow] = {}
        self._last = 0
        self._idle_since = 0.0
        self.carrier = Carrier(outbound.serving.limits, self._frame, self.lost, outbound.drop)

    def adopt(self, flow: _Flow) -> int:
        """The number of a new flow."""
        self._last = self._last % MAX_FLOW + 1
        while self._last in self._flows:
            self._last = self._last % MAX_FLOW + 1
        self._flows[self._last] = flow
        return self._last

    def release(self, number: int) -> None:
        if self._flows.pop(number, None) is not None:
            self.carrier.end(number)
        if not self._flows:
            self._idle_since = self._outbound.serving.registry.now

    def rest(self, now: float, idle: float) -> None:
        """Close if no flow has used it for `idle` seconds, or its peer does not read."""
        self.carrier.check(now)
        if not self._flows and now - self._idle_since >= idle:
            self._outbound.unlink(self)
            self.carrier.close()

    def lost(self) -> None:
        flows, self._flows = self._flows, {}
        self._outbound.unlink(self)
        for flow in flows.values():
            flow.leave()

    def _frame(self, frame: Frame) -> None:
        flow = self._flows.get(frame.flow)
        if flow is None or frame.kind is not Kind.DATAGRAM:
            self._outbound.drop(datagrams.UNKNOWN_FLOW)
            return
        self._outbound.answer(flow, frame.payload)


def _leads_to(target: Target) -> frozenset[str]:
    """Every cluster that a flow to this destination may use; "" stands for passing through."""
    destination = target.destination
    backends = (backend.cluster for split in destination.splits for backend in split.backends)
    return frozenset((destination.cluster or "", *backends))
