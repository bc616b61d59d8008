"""Connections to the local app: from peers over mTLS, and from plain-text callers by redirect.

Enforcement happens here and only here (S20): every request and every opaque connection is admitted
with the policy in force at that moment, by the identity that the handshake proved.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from dataplane.core.balance import Ceiling, Load
from dataplane.core.inbound import (
    CALLER_FIELDS,
    admit_connection,
    admit_request,
    caller_fields,
    protocols,
    service_of,
    spoken_as,
)
from dataplane.core.openings import First, Openings
from dataplane.core.outcome import Outcome, Reply, failed, refused
from dataplane.core.patience import pause
from dataplane.core.rates import SECOND, Held, Rates
from dataplane.serve.gate import Decision, Refusal, Serving, Way
from dataplane.serve.handshakes import Expired, Handshakes, Issued
from dataplane.serve.http2_server import DownstreamLink
from dataplane.serve.http_any import Opening
from dataplane.serve.http_server import Downstream
from dataplane.serve.outbound import to_origin_form
from dataplane.serve.pool import App, ConnectFailed, Contexts
from dataplane.serve.pressure import refused_connections
from dataplane.serve.server_names import ServerNames
from dataplane.serve.sniffer import Sniffer
from dataplane.serve.sockets import Accepted, Original, caller_address, reset, stream
from dataplane.serve.tls import TlsLayer
from dataplane.serve.tunnel import Tally, Tunnel
from dataplane.serve.udp_inbound import UdpInbound
from dataplane.serve.udp_series import UdpCommon
from dataplane.state import State
from dataplane.telemetry import Labels, Telemetry
from dataplane.wire.authority import port_of_sni
from dataplane.wire.http1 import RequestHead
from smi.names import ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, ALPN_UDP, DENIAL_HEADER, REASON_HEADER
from smi.policy.access import Denial, Peer, Permit
from smi.policy.snapshot import Protocol

_OURS: Final = frozenset({DENIAL_HEADER.encode(), REASON_HEADER.encode()})
"""Fields that only proxies may set in responses: peers act on them."""
_LOG_EVERY: Final = 10.0
"""Seconds between log lines of equal denials."""
_MAX_LOGGED: Final = 1000
_MAX_OPENINGS: Final = 1024

_log = logging.getLogger("dataplane.inbound")


class Inbound:
    """The inbound side of one proxy. `own_ports`: its listeners, which no caller reaches through it.

    `processes`: how many of them share the pod's rate limits.
    """

    def __init__(
        self,
        serving: Serving,
        state: State,
        contexts: Contexts,
        app: App,
        telemetry: Telemetry,
        own_ports: frozenset[int],
        original: Original,
        udp: UdpCommon,
        handshakes: Handshakes,
        processes: int = 1,
    ) -> None:
        self.serving = serving
        self.state = state
        self.app = app
        self.telemetry = telemetry
        self.own_ports = own_ports
        self._contexts = contexts
        self._handshakes = handshakes
        serving.registry.on_tick(Issued(contexts).check)
        self._original = original
        self.udp = UdpInbound(
            serving, state, udp.counters, app.host, own_ports, udp.idle, self.denied, self.admitted
        )
        self._names = ServerNames(telemetry, "inbound")
        self.openings = Openings(_MAX_OPENINGS, serving.limits.remembered)
        self._loads: WeakValueDictionary[str, Load] = WeakValueDictionary()
        self._ceiling = Ceiling(serving.limits.requests_to_app, self.active)
        self._logged: dict[str, float] = {}
        self._awake: set[int] = set()  # ports on which the app has accepted an opaque connection
        self.rates: Rates | None = None
        """None while there is no limit, which then costs nothing."""
        self._processes = processes
        self._limited = telemetry.counter(
            "smi_mesh_rate_limited_total",
            "Requests answered 429, and connections refused, by the Service's limit that held them.",
            ("service", "limit", "what"),
        )
        self._refused = refused_connections(telemetry)
        state.on_update(self._updated)
        self._updated()
        self._notes = telemetry.counter(
            "smi_mesh_admitted_by_note_total",
            "Requests and connections admitted by something else than a TrafficTarget.",
            ("note", "reason"),
        )

    # --- connections -------------------------------------------------------------------------------

    def accept_mesh(self) -> asyncio.Protocol:
        """The protocol of a connection at the mesh port."""
        layer = TlsLayer(
            self._contexts.server_context,
            self._authenticated,
            self._failed,
            seconds=self.serving.limits.handshake,
        )
        return layer.protocol

    def accept_plain(self) -> asyncio.Protocol:
        """The protocol of a redirected plain-text connection."""
        return Accepted(self.begin_plain)

    def begin_plain(self, transport: asyncio.Transport) -> None:
        original = self._original(transport)
        if original is None or original[1] in self.own_ports:
            reset(transport)
            return
        port = original[1]
        protocol = protocols(self.state.inbound).get(port, Protocol.DETECT)
        http = spoken_as(protocol)
        if http is None:
            first = self.openings.recall(port, self.serving.loop.time())
            limits = self.serving.limits
            head_start = 0.0 if first is First.SERVER else limits.head_start
            Sniffer(head_start, limits.sniff, _Sides(self, port)).adopt(transport)
        elif http:
            Opening(self.serving, _Gate(self, None, port, transport)).adopt(transport)
        else:
            self.relay(transport, None, port)

    def _authenticated(self, layer: TlsLayer) -> asyncio.Protocol | None:
        """The handshake is done: the peer, the port and the protocol are known."""
        try:
            peer, port = self._handshakes.proof(layer).peer, port_of_sni(layer.sni)
        except Expired as expired:
            _log.warning("refused a mesh connection: %s", expired)
            return None
        if peer is None or port is None or port in self.own_ports:
            _log.warning("refused a mesh connection: peer %s, server name %s", peer, layer.sni)
            return None
        if layer.alpn == ALPN_HTTP1:
            return Downstream(self.serving, _Gate(self, peer, port, layer.transport)).protocol
        if layer.alpn == ALPN_HTTP2:
            gate = _Gate(self, peer, port, layer.transport)
            return DownstreamLink(self.serving, gate, of_proxy=True)
        if layer.alpn == ALPN_UDP:
            carrier = self.udp.carried(peer, port)
            if carrier is None:
                self._refused.add(("peer",))
            return carrier
        return _Opaque(self, peer, port) if layer.alpn == ALPN_TCP else None

    def _failed(self, error: Exception) -> None:
        self._handshakes.failed()
        level = logging.INFO if isinstance(error, ssl.SSLError) else logging.DEBUG
        _log.log(level, "a handshake at the mesh port failed: %s", error)

    def relay(
        self,
        transport: asyncio.Transport,
        peer: Peer | None,
        port: int,
        data: bytes = b"",
        tally: Tally | None = None,
        tunnel: Tunnel | None = None,
    ) -> None:
        """Serve an opaque connection, of which `data` was read already.

        `tunnel`, counted by `tally`, leads to the app already.
        """
        tally = (tally or self.tally(peer, port)).begin()
        verdict = admit_connection(self.state.inbound, peer, port)
        if isinstance(verdict, Denial):
            self.denied(verdict)
            if tunnel is None:
                tally.closed(0, 0, verdict.reason)
            else:
                tunnel.reason = verdict.reason
                tunnel.drop()
            reset(transport)
            return
        self.admitted(verdict)
        load = self.load_of(peer)
        held = self._too_much(verdict, peer, port, load)
        if held is not None:
            if tunnel is None:
                tally.closed(0, 0, held.reason)
            else:
                tunnel.reason = held.reason
                tunnel.drop()
            reset(transport)
            return
        called = tunnel or Tunnel(self.serving.registry, self.serving.limits, tally.closed)
        called.weigh_on(load)
        if protocols(self.state.inbound).get(port) is Protocol.TCP:
            called.client.adopt(transport, data)
        else:
            self._names.listen(transport, data, called.client, "", str(port))
        transport.resume_reading()
        if tunnel is None:
            self.connect(called, verdict, port)

    def _too_much(self, permit: Permit, peer: Peer | None, port: int, load: Load) -> Outcome | None:
        """Why an opaque connection that is allowed cannot be had now; None if it can, which is counted."""
        if permit.note == "probe":
            return None
        if self.too_many(load):
            return Outcome.OVERFLOW
        if self.rates is not None and self._connection_held(self.rates, peer, port):
            return Outcome.RATE_LIMITED
        return None

    def tally(self, peer: Peer | None, port: int) -> Tally:
        """What an opaque connection is counted under."""
        return Tally(self.telemetry, self.labels(peer, port))

    def labels(self, peer: Peer | None, port: int) -> Labels:
        """What a caller's traffic to one port is counted under."""
        service = service_of(self.state.inbound, port)
        if peer is None:
            return "inbound", "", service, ""
        return "inbound", peer.identity, service, "", peer.pod or "", peer.workload

    def connect(self, tunnel: Tunnel, permit: Permit, port: int) -> None:
        """Begin to give a tunnel the app."""
        self.serving.tasks.start("connect app", self._connect(tunnel, permit, port))

    async def _connect(self, tunnel: Tunnel, permit: Permit, port: int) -> None:
        until = self.serving.loop.time() + self.serving.limits.hold
        turn = 0
        while True:
            try:
                await self.app.connect(permit, port, lambda: tunnel.server)
            except ConnectFailed as failure:
                # The caller's proxy has passed this connection on, so nobody else can be asked any more;
                # but an app that never listened is only just starting.
                awake = port in self._awake or tunnel.client.lost
                if awake or self.serving.loop.time() >= until:
                    tunnel.failed(failure.outcome.reason)
                    return
                await asyncio.sleep(pause(turn))
                turn += 1
            else:
                self._awake.add(port)
                return

    # --- rate limits -------------------------------------------------------------------------------

    def _updated(self) -> None:
        """The config has changed: its limits hold from now on, with the buckets of those that stay."""
        access, before = self.state.inbound, self.rates
        limits = () if access is None else access.inbound.limits
        if before is None or before.limits != limits:
            self.rates = Rates(limits, self._processes, before) if limits else None
            for limit in limits:  # there from the start: 0 is an answer, too
                self._limited.add((limit.service, limit.text, limit.what.value), 0)

    def held(self, rates: Rates, peer: Peer | None, port: int, request: RequestHead) -> Reply | None:
        """The answer to an admitted request that must wait; None if it may pass, which is counted."""
        held = rates.request(port, "" if peer is None else peer.identity, request, self._nanoseconds())
        if held is None:
            return None
        self._count_held(held)
        detail = f"Service {held.limit.service} takes {held.limit.text} at each of its pods"
        return failed(Outcome.RATE_LIMITED, detail, held.seconds)

    def _connection_held(self, rates: Rates, peer: Peer | None, port: int) -> bool:
        held = rates.connection(port, "" if peer is None else peer.identity, self._nanoseconds())
        if held is not None:
            self._count_held(held)
        return held is not None

    def _count_held(self, held: Held) -> None:
        self._limited.add((held.limit.service, held.limit.text, held.limit.what.value))

    def _nanoseconds(self) -> int:
        return int(self.serving.loop.time() * SECOND)

    # --- verdicts ----------------------------------------------------------------------------------

    def denied(self, denial: Denial) -> None:
        """Count and log a refusal; equal ones are logged once in a while."""
        self.telemetry.denial(denial.reason, denial.id, self._pod(), denial.nearest)
        self._log_denial("denied", denial)

    def admitted(self, permit: Permit) -> None:
        """Count an admission that no TrafficTarget made (S27, S32); audit also logs it."""
        if not permit.note:
            return
        would = permit.would_deny
        self._notes.add((permit.note, would.reason if would is not None else ""))
        if would is not None and permit.note == "audit":
            self._log_denial("would be denied", would)

    def _log_denial(self, what: str, denial: Denial) -> None:
        now = self.serving.loop.time()
        if now - self._logged.get(denial.id, -_LOG_EVERY) < _LOG_EVERY:
            return
        if len(self._logged) >= _MAX_LOGGED:
            self._logged.clear()
        self._logged[denial.id] = now
        nearest = "; ".join(denial.nearest)
        _log.warning("%s: %s id=%s %s (%s)", what, denial.reason, denial.id, denial.message, nearest)

    def _pod(self) -> str:
        access = self.state.inbound
        return access.inbound.pod if access is not None else ""

    def identity(self) -> str:
        """Our own SPIFFE id, as the config names it."""
        access = self.state.inbound
        return access.inbound.identity if access is not None else ""

    def active(self) -> int:
        """Requests and opaque connections under way to the app."""
        return sum(load.active for load in self._loads.values())

    def load_of(self, peer: Peer | None) -> Load:
        """What one caller has under way to the app; those without identity share it."""
        key = peer.identity if peer is not None else ""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = Load()
        return load

    def too_many(self, load: Load) -> bool:
        """Whether one more request or opaque connection of a caller is; asked once for each."""
        return load.active >= self.serving.limits.requests_per_peer or self._ceiling.full()


class _Sides:
    """What a plain-text connection to `port` can become."""

    __slots__ = ("_inbound", "_port", "_tally")

    def __init__(self, inbound: Inbound, port: int) -> None:
        self._inbound = inbound
        self._port = port
        self._tally: Tally | None = None

    def call(self, heard: Callable[[bool], None]) -> Tunnel | None:
        inbound = self._inbound
        verdict = admit_connection(inbound.state.inbound, None, self._port)
        if isinstance(verdict, Denial):
            return None
        self._tally = inbound.tally(None, self._port)
        serving = inbound.serving
        tunnel = Tunnel(serving.registry, serving.limits, self._tally.closed, heard)
        inbound.connect(tunnel, verdict, self._port)
        return tunnel

    def request(self, transport: asyncio.Transport, data: bytes) -> None:
        inbound = self._inbound
        inbound.openings.forget(self._port)
        Opening(inbound.serving, _Gate(inbound, None, self._port, transport)).adopt(transport, data)

    def opaque(self, transport: asyncio.Transport, data: bytes, tunnel: Tunnel | None, greeted: bool) -> None:
        inbound = self._inbound
        if greeted:
            inbound.openings.learn(self._port, First.SERVER, inbound.serving.loop.time())
        inbound.relay(transport, None, self._port, data, self._tally, tunnel)


class _Opaque(asyncio.Protocol):
    """The same for an opaque mesh connection, after its handshake."""

    __slots__ = ("_inbound", "_peer", "_port")

    def __init__(self, inbound: Inbound, peer: Peer, port: int) -> None:
        self._inbound = inbound
        self._peer = peer
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inbound.relay(stream(transport), self._peer, self._port)


class _Gate:
    """Gate of one caller's connection to one port of the app."""

    __slots__ = ("_extra", "_inbound", "_load", "_peer", "_port", "_series", "_way")

    def __init__(
        self, inbound: Inbound, peer: Peer | None, port: int, transport: asyncio.BaseTransport
    ) -> None:
        self._inbound = inbound
        self._peer = peer
        self._port = port
        self._extra = caller_fields(inbound.identity(), peer, caller_address(transport))
        self._series = inbound.telemetry.http_series(*inbound.labels(peer, port))
        self._load = inbound.load_of(peer)
        self._way: Way | None = None

    def decide(self, head: RequestHead) -> Decision:
        if head.method == b"CONNECT":
            return self.refuse(failed(Outcome.NOT_IMPLEMENTED, "CONNECT is for proxies"))
        to_origin_form(head)
        inbound = self._inbound
        verdict = admit_request(inbound.state.inbound, self._peer, self._port, head)
        if isinstance(verdict, Denial):
            inbound.denied(verdict)
            return self.refuse(refused(verdict))
        if verdict.note:
            inbound.admitted(verdict)
        if inbound.rates is not None and verdict.note != "probe":
            reply = inbound.held(inbound.rates, self._peer, self._port, head)
            if reply is not None:
                return self.refuse(reply)
        if inbound.serving.pressure.shedding:
            return self.refuse(failed(Outcome.OVERLOAD))
        if inbound.too_many(self._load):
            return self.refuse(failed(Outcome.OVERFLOW))
        return self._way_to_app(verdict)

    def again(self, _way: Way, _tried: Sequence[Way]) -> Way | None:
        return None  # there is one app

    def hold(
        self, _head: RequestHead, _way: Way, _tried: Sequence[Way], _turn: int
    ) -> Coroutine[Any, Any, Way | None] | None:
        return None  # the caller's proxy knows more

    def refuse(self, reply: Reply) -> Refusal:
        return Refusal(reply, self._series)

    def _way_to_app(self, permit: Permit) -> Way:
        lane = self._inbound.app.lane(permit, self._port)
        if self._way is None:
            self._way = Way(
                lane,
                self._series,
                self._load,
                extra=self._extra,
                drop=CALLER_FIELDS,
                drop_response=_OURS,
            )
        return self._way
