"""UDP flows to the local app: admitted by identity (S20, S24), refused by silence (S25).

Peers' flows come on carriers: who sends and to which port the handshake proved, so that one verdict
holds for a carrier. It is taken anew whenever the policy changes, before the next datagram of either
direction: a live flow ends with its permission. Datagrams from outside the mesh are intercepted and
meet S32 here.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from dataplane.core.flows import FlowTable
from dataplane.core.inbound import admit_flow
from dataplane.serve import datagrams
from dataplane.serve.carrier import Carrier
from dataplane.serve.datagrams import Conversation, Reply
from dataplane.serve.gate import Serving
from dataplane.serve.sockets import Address
from dataplane.serve.udp_series import UdpCounters
from dataplane.state import State
from dataplane.wire.datagrams import Frame, Kind
from smi.policy.access import AccessTable, Denial, Peer, Permit

_DIRECTION: Final = "inbound"
_MAX_NOTED: Final = 1024
"""Refused flows remembered, so that each is counted once; beyond it some are counted again."""
_PATIENCE: Final = 5
"""A carrier without flows is closed after so many times what its opener would leave it open."""

_FlowKey = tuple[object, object]
_Key = TypeVar("_Key")


class UdpInbound:
    """The inbound side for UDP. `denied` and `admitted` count and log a verdict, once per flow."""

    def __init__(
        self,
        serving: Serving,
        state: State,
        counters: UdpCounters,
        host: str,
        own_ports: frozenset[int],
        idle: float,
        denied: Callable[[Denial], None],
        admitted: Callable[[Permit], None],
    ) -> None:
        self.serving = serving
        self.state = state
        self.counters = counters
        self.flows: FlowTable[_FlowKey, _Flow] = FlowTable(serving.limits.udp_flows, idle)
        self.denied = denied
        self.admitted = admitted
        self._host = host
        self._own_ports = own_ports
        self._reply: Reply | None = None
        self._strangers: dict[int, Gate] = {}
        self._callers: set[_Caller] = set()
        self._carriers: Counter[tuple[Peer, int]] = Counter()
        self._held: Counter[Peer | None] = Counter()  # flows; None: of callers outside the mesh
        serving.registry.on_tick(self._tick)

    def __len__(self) -> int:
        return len(self.flows)

    def answer_strangers(self, reply: Reply) -> None:
        """From now on `received` is called for datagrams from outside the mesh."""
        self._reply = reply

    def carried(self, peer: Peer, port: int) -> Carrier | None:
        """The protocol of a peer's carrier to the app's `port`; None if it has too many."""
        if self._carriers[peer, port] >= self.serving.limits.udp_carriers:
            return None
        self._carriers[peer, port] += 1
        caller = _Caller(self, peer, port)
        self._callers.add(caller)
        return caller.carrier

    def received(self, client: Address, to: Address, payload: bytes) -> None:
        """An intercepted datagram of a caller outside the mesh."""
        port = to[1]
        if port in self._own_ports:
            self.drop(datagrams.LOOP)
            return
        gate = self._strangers.get(port)
        if gate is None:
            if len(self._strangers) >= _MAX_NOTED:
                self._strangers.clear()
            gate = self._strangers[port] = Gate(self, None, port)
        reply = self._reply

        def back(answer: bytes) -> None:
            if reply is None or not reply(to, client, answer):
                self.drop(datagrams.REPLY_FAILED)

        self.deliver(gate, (client, to), payload, back)

    def close(self) -> None:
        for flow in self.flows:
            flow.conversation.close()
        for caller in tuple(self._callers):
            caller.carrier.abort()

    def drop(self, reason: str, count: int = 1) -> None:
        self.counters.drop(_DIRECTION, reason, count)

    def forget(self, caller: _Caller) -> None:
        """Its connection is gone."""
        self._callers.discard(caller)
        _less(self._carriers, (caller.peer, caller.port))

    # --- flows -------------------------------------------------------------------------------------

    def deliver(self, gate: Gate, key: _FlowKey, payload: bytes, back: Callable[[bytes], None]) -> None:
        """A caller's datagram, on its way to the app; `back` takes the app's answers."""
        permit = gate.permit(key)
        if permit is None:
            return
        flow = self.flows.get(key)
        if flow is None:
            flow = self._open(gate, key, permit, back)
            if flow is None:
                return
        flow.used = self.serving.registry.now
        flow.series.out(payload)
        reason = flow.conversation.send(payload)
        if reason:
            self.drop(reason)

    def _open(self, gate: Gate, key: _FlowKey, permit: Permit, back: Callable[[bytes], None]) -> _Flow | None:
        if self.flows.full or self._held[gate.peer] >= self.serving.limits.udp_flows_per_peer:
            self.drop(datagrams.FLOW_TABLE_FULL)
            return None
        try:
            sock = datagrams.to_app(permit, self._host, gate.port)
        except OSError:
            self.drop(datagrams.UNREACHABLE)
            return None
        self.admitted(permit)
        flow = _Flow(self, gate, key, sock, back)
        self.flows.add(key, flow)
        gate.open.add(key)
        self._held[gate.peer] += 1
        return flow

    def end(self, key: _FlowKey) -> None:
        """Close a flow. Harmless for one that is not there."""
        flow = self.flows.get(key)
        if flow is not None:
            self.flows.remove(key)
            self._close(flow)

    def _close(self, flow: _Flow) -> None:
        flow.gate.open.discard(flow.key)
        flow.conversation.close()
        _less(self._held, flow.gate.peer)

    def _tick(self, now: float) -> None:
        gone = self.flows.expire(now)
        for flow in gone:
            self._close(flow)
        self.counters.expired(_DIRECTION, len(gone))
        for caller in tuple(self._callers):
            caller.rest(now, self.serving.limits.pool_idle * _PATIENCE)


def _less(counter: Counter[_Key], key: _Key) -> None:
    """One less, and no trace of who has none."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


class Gate:
    """The verdict on one caller (None: outside the mesh) and one port, and the flows it let in."""

    __slots__ = ("_access", "_inbound", "_noted", "_verdict", "open", "peer", "port")

    def __init__(self, inbound: UdpInbound, peer: Peer | None, port: int) -> None:
        self._inbound = inbound
        self.peer = peer
        self.port = port
        self.open: set[_FlowKey] = set()
        self._noted: set[_FlowKey] = set()
        self._access: AccessTable | None = None
        self._verdict: Permit | Denial | None = None

    def permit(self, key: _FlowKey) -> Permit | None:
        """Leave for one datagram of a flow; None: dropped and counted."""
        verdict = self._decide()
        if isinstance(verdict, Permit):
            return verdict
        if key not in self._noted:
            if len(self._noted) >= _MAX_NOTED:
                self._noted.clear()
            self._noted.add(key)
            self._inbound.denied(verdict)
        self._inbound.drop(verdict.reason)
        return None

    def _decide(self) -> Permit | Denial:
        access = self._inbound.state.inbound
        if self._verdict is None or access is not self._access:
            self._access = access
            self._noted.clear()
            self._verdict = admit_flow(access, self.peer, self.port)
            if isinstance(self._verdict, Denial):
                for key in tuple(self.open):
                    self._inbound.end(key)
        return self._verdict


class _Flow:
    """One flow to the app, with a socket of its own."""

    __slots__ = ("_back", "_inbound", "conversation", "gate", "key", "series", "used")

    def __init__(
        self,
        inbound: UdpInbound,
        gate: Gate,
        key: _FlowKey,
        sock: socket.socket,
        back: Callable[[bytes], None],
    ) -> None:
        self._inbound = inbound
        self._back = back
        self.gate = gate
        self.key = key
        self.used = 0.0
        self.series = inbound.counters.begin(_DIRECTION, gate.peer.identity if gate.peer else "", "", "")
        self.conversation = Conversation(sock, self._answer, lambda: inbound.drop(datagrams.REFUSED))

    def _answer(self, payload: bytes) -> None:
        if self.gate.permit(self.key) is None:
            return
        self.used = self._inbound.serving.registry.now
        self.series.back(payload)
        self._back(payload)


class _Caller:
    """A peer's carrier to one port."""

    __slots__ = ("_gate", "_inbound", "_used", "carrier", "peer", "port")

    def __init__(self, inbound: UdpInbound, peer: Peer, port: int) -> None:
        self._inbound = inbound
        self.peer = peer
        self.port = port
        self._gate = Gate(inbound, peer, port)
        self._used = inbound.serving.registry.now
        self.carrier = Carrier(inbound.serving.limits, self._frame, self._lost, inbound.drop)

    def rest(self, now: float, idle: float) -> None:
        """Close what its opener must have forgotten, or does not read."""
        self.carrier.check(now)
        if not self._gate.open and now - self._used >= idle:
            self.carrier.close()

    def _frame(self, frame: Frame) -> None:
        number = frame.flow
        key = (self, number)
        if frame.kind is Kind.END:
            self._inbound.end(key)
            return
        self._used = self._inbound.serving.registry.now
        self._inbound.deliver(
            self._gate, key, frame.payload, lambda answer: self.carrier.send(number, answer)
        )

    def _lost(self) -> None:
        self._inbound.forget(self)
        for key in tuple(self._gate.open):
            self._inbound.end(key)
