"""Ways to servers: pooled HTTP connections and fresh opaque ones, to peers and to the local app.

This is where authorisation is enforced by types: `Peers` opens nothing without a `Plan`, `App`
nothing without a `Permit`. A `Lane` is one server; its idle connections are taken last in, first
out, so that what is not needed grows old and is closed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from dataplane.core.balance import Load
from dataplane.core.outbound import Plan
from dataplane.core.outcome import Outcome
from dataplane.serve.connecting import ConnectFailed, Line, MakeProtocol, Opener
from dataplane.serve.handshakes import Expired, Handshakes, Place, Sessions
from dataplane.serve.http2_client import Trunk
from dataplane.serve.http_client import Upstream
from dataplane.serve.limits import Limits
from dataplane.serve.registry import Registry
from dataplane.serve.sockets import watch
from dataplane.serve.tls import TlsLayer
from dataplane.wire.authority import mesh_sni
from smi.policy.access import Permit
from smi.policy.snapshot import Endpoint

MAX_LANES: Final = 8192

__all__ = ["App", "ConnectFailed", "Contexts", "Lane", "MakeProtocol", "Opener", "Peers", "avoid"]


class Contexts(Protocol):
    """The current TLS contexts (`control.identity.Identity`); read at each new connection."""

    @property
    def server_context(self) -> ssl.SSLContext: ...
    def begin_sessions_anew(self) -> None: ...
    @property
    def client_context(self) -> ssl.SSLContext: ...
    @property
    def client_http2_context(self) -> ssl.SSLContext: ...
    @property
    def client_tcp_context(self) -> ssl.SSLContext: ...
    @property
    def client_udp_context(self) -> ssl.SSLContext: ...


class Lane:
    """The HTTP connections to one server. Made by `Peers` and `App` only, who ask for leave."""

    __slots__ = (
        "_generation",
        "_idle",
        "_line",
        "_opener",
        "_registry",
        "_size",
        "idle_seconds",
        "opened",
        "trunk",
    )

    def __init__(
        self,
        opener: Opener,
        generation: Callable[[], object] | None,
        registry: Registry,
        idle_seconds: float,
        size: int,
        trunk: Trunk,
        line: Line[Upstream],
    ) -> None:
        """`size`: idle connections kept. `line`: bounds how many are made at a time."""
        self.trunk = trunk
        """The connections that speak HTTP/2."""
        self._line = line
        self._opener = opener
        self._registry = registry
        self._generation = generation
        self._idle: dict[Upstream, None] = {}  # in order of return: the last is taken first
        self._size = size
        self.idle_seconds = idle_seconds
        self.opened = 0
        """Connections ever opened."""

    @property
    def idle(self) -> int:
        """Connections waiting for a request."""
        return len(self._idle) + self.trunk.idle

    @property
    def unused(self) -> bool:
        """Nothing would be lost with it."""
        return not self._idle and not self.trunk.links and self._line.empty

    def take(self) -> Upstream | None:
        """An idle connection, or None. One that was opened before a rotation is closed instead."""
        while self._idle:
            upstream, _ = self._idle.popitem()
            if self._is_fit(upstream):
                return upstream
            upstream.transport.close()
        return None

    async def open(self) -> Upstream:
        """A new connection, or one that came back while many were being made. Raises ConnectFailed."""
        while True:
            upstream = await self._line.get(self._open)
            if not upstream.transport.is_closing():  # since it was handed over
                return upstream

    async def _open(self) -> Upstream:
        upstream = Upstream(self, None if self._generation is None else self._generation())
        await self._opener(lambda: upstream.protocol)
        if upstream.transport.is_closing():  # nobody would tell the exchange, which comes too late
            raise ConnectFailed(Outcome.CONNECT_FAILED, "the server closed the connection at once")
        self.opened += 1
        return upstream

    def give_back(self, upstream: Upstream) -> None:
        """An exchange is over and the connection can carry another."""
        if self._line.waiting and self._is_fit(upstream) and self._hand_on(upstream):
            return
        if len(self._idle) >= self._size:
            upstream.transport.close()
            return
        upstream.idle_since = self._registry.now
        self._idle[upstream] = None
        if upstream.paused:
            upstream.resume_reading()  # so that its end is noticed

    def _is_fit(self, upstream: Upstream) -> bool:
        """Whether it is open, and was opened with the present certificate."""
        generation = self._generation
        current = generation is None or upstream.generation is generation()
        return current and not upstream.transport.is_closing()

    def _hand_on(self, upstream: Upstream) -> bool:
        """Whether somebody who waits for a connection has got this one."""
        if upstream.paused:
            upstream.resume_reading()
        return self._line.give(upstream)

    def forget(self, upstream: Upstream) -> None:
        """It is gone, or no longer ours. Harmless for one that is not idle."""
        self._idle.pop(upstream, None)

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; the oldest come first."""
        self.trunk.sweep(now, self.idle_seconds)
        while self._idle:
            oldest = next(iter(self._idle))
            if now - oldest.idle_since < self.idle_seconds:
                return
            del self._idle[oldest]
            oldest.transport.close()

    def close(self) -> None:
        """Close every idle connection, and those that speak HTTP/2 behind their last exchange."""
        self.trunk.close()
        while self._idle:
            upstream, _ = self._idle.popitem()
            upstream.transport.close()


def _never_rotated() -> None:
    """Plain connections carry no certificate."""


class Peers:
    """Servers outside this pod: proxies of other pods over mTLS, others in plain."""

    def __init__(
        self,
        contexts: Contexts,
        mesh_port: int,
        limits: Limits,
        registry: Registry,
        handshakes: Handshakes,
    ) -> None:
        self._contexts = contexts
        self._handshakes = handshakes
        self._sessions = Sessions()
        self._mesh_port = mesh_port
        self._limits = limits
        self._registry = registry
        self._lanes: dict[Endpoint, Lane] = {}
        self._lines: dict[Endpoint, Line[asyncio.Transport]] = {}  # of opaque connections in the making
        registry.on_tick(self._sweep)

    def lane(self, plan: Plan) -> Lane:
        """The HTTP connections to the endpoint of `plan`."""
        endpoint = plan.endpoint
        lane = self._lanes.get(endpoint)
        if lane is None:
            lane = self._lanes[endpoint] = self._make(endpoint)
        return lane

    async def connect(self, plan: Plan, make: MakeProtocol) -> asyncio.Transport:
        """An opaque connection to the endpoint of `plan`. Raises ConnectFailed."""
        endpoint = plan.endpoint
        if endpoint.identity is None:
            return await _connect_plain(endpoint.ip, endpoint.port, make, self._limits)
        line = self._lines.get(endpoint)
        if line is None:
            line = self._lines[endpoint] = Line(self._limits.connecting, self._limits.pending)
        try:
            return await line.get(
                lambda: self._connect_mesh(endpoint, self._contexts.client_tcp_context, make)
            )
        finally:
            if line.empty:
                self._lines.pop(endpoint, None)

    @property
    def udp_context(self) -> ssl.SSLContext:
        """The context of the next carrier; another one after a rotation."""
        return self._contexts.client_udp_context

    async def carry(self, plan: Plan, make: MakeProtocol) -> asyncio.Transport:
        """A connection for datagrams to the peer of `plan`. Raises ConnectFailed."""
        return await self._connect_mesh(plan.endpoint, self.udp_context, make)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    @property
    def idle(self) -> int:
        return sum(lane.idle for lane in self._lanes.values())

    def _current(self) -> tuple[ssl.SSLContext, ...]:
        """What the next connections will use."""
        use = self._contexts
        return use.client_context, use.client_http2_context, use.client_tcp_context, use.client_udp_context

    def _make(self, endpoint: Endpoint) -> Lane:
        contexts, limits = self._contexts, self._limits

        async def mesh(make: MakeProtocol) -> asyncio.Transport:
            return await self._connect_mesh(endpoint, contexts.client_context, make)

        async def plain(make: MakeProtocol) -> asyncio.Transport:
            return await _connect_plain(endpoint.ip, endpoint.port, make, limits)

        async def mesh_http2(make: MakeProtocol) -> asyncio.Transport:
            return await self._connect_mesh(endpoint, contexts.client_http2_context, make)

        registry, idle, size = self._registry, limits.pool_idle, limits.pool_size
        line: Line[Upstream] = Line(limits.connecting, limits.pending)
        if endpoint.identity is None:
            trunk = Trunk(plain, _never_rotated, registry, mesh=False)
            return Lane(plain, None, registry, idle, size, trunk, line)
        trunk = Trunk(mesh_http2, lambda: contexts.client_http2_context, registry, mesh=True)
        return Lane(mesh, lambda: contexts.client_context, registry, idle, size, trunk, line)

    async def _connect_mesh(
        self, endpoint: Endpoint, context: ssl.SSLContext, make: MakeProtocol
    ) -> asyncio.Transport:
        """To the mesh port of a peer, who must prove to be `endpoint.identity`."""
        loop, seconds, port = asyncio.get_running_loop(), self._limits.connect, self._mesh_port
        where = f"{endpoint.ip}:{port}"
        name = mesh_sni(endpoint.port)
        place = Place(context, endpoint.ip, name)
        handshake = _Handshake(where, place, endpoint.identity, make, self._handshakes, self._sessions)

        def layer() -> asyncio.Protocol:
            made = TlsLayer(
                context,
                handshake.on_ready,
                handshake.on_failed,
                seconds=seconds,
                server_name=name,
                session=self._sessions.of(place),
            )
            return made.protocol

        try:
            async with asyncio.timeout(seconds):
                raw, _ = await loop.create_connection(layer, endpoint.ip, port)
                watch(raw, self._limits)
                return await handshake.result()
        except TimeoutError:
            raise ConnectFailed(Outcome.CONNECT_TIMEOUT, f"{where} did not answer in {seconds:g} s") from None
        except OSError as error:  # ssl.SSLError is one
            raise ConnectFailed(Outcome.CONNECT_FAILED, f"{where}: {error}") from error
        finally:
            handshake.close()

    def _sweep(self, now: float) -> None:
        for lane in self._lanes.values():
            lane.sweep(now)
        if self._sessions:
            self._sessions.sweep(self._current())
        if len(self._lanes) > MAX_LANES:  # endpoints come and go; their lanes are cheap to make again
            self._lanes = {endpoint: lane for endpoint, lane in self._lanes.items() if not lane.unused}


class _Handshake:
    """Waits for a TLS layer to be ready, and for its peer to be who it must be."""

    def __init__(
        self,
        where: str,
        place: Place,
        identity: str | None,
        make: MakeProtocol,
        handshakes: Handshakes,
        sessions: Sessions,
    ) -> None:
        self._where = where
        self._place = place
        self._handshakes = handshakes
        self._sessions = sessions
        self._identity = identity
        self._make = make
        self._ready: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._taken = False

    def on_ready(self, layer: TlsLayer) -> asyncio.Protocol | None:
        try:
            found = self._handshakes.proof(layer).identity
        except Expired as expired:
            self._refuse(Outcome.PEER_EXPIRED, f"{self._where}: {expired}")
            return None
        if found != self._identity:
            self._refuse(Outcome.WRONG_PEER, f"{self._where} is {found}, not {self._identity}")
            return None
        self._sessions.keep(self._place, layer)
        if self._ready.done():  # nobody waits any more
            return None
        self._ready.set_result(layer.transport)
        return self._make()

    def on_failed(self, error: Exception) -> None:
        self._handshakes.failed()
        self._fail(error)

    def _refuse(self, outcome: Outcome, detail: str) -> None:
        """Refuse the peer, and let the next connection begin with a full handshake."""
        self._sessions.forget(self._place)
        self._fail(ConnectFailed(outcome, detail))

    def _fail(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    async def result(self) -> asyncio.Transport:
        """The transport, once its peer is proven. Raises ConnectFailed or OSError."""
        transport = await self._ready
        self._taken = True
        return transport

    def close(self) -> None:
        """Leave nothing behind of a handshake whose result was not taken."""
        if self._taken or self._ready.cancel() or self._ready.cancelled():
            return
        if self._ready.exception() is None:  # it was ready just too late
            self._ready.result().abort()


class App:
    """The local app, at `host`."""

    def __init__(self, host: str, limits: Limits, registry: Registry) -> None:
        self.host = host
        self._limits = limits
        self._registry = registry
        self._lanes: dict[int, Lane] = {}
        registry.on_tick(self._sweep)

    def lane(self, _permit: Permit, port: int) -> Lane:
        """The HTTP connections to the app's `port`. A Permit is the leave to reach it."""
        lane = self._lanes.get(port)
        if lane is None:
            host, limits = self.host, self._limits

            async def plain(make: MakeProtocol) -> asyncio.Transport:
                return await _connect_plain(host, port, make, limits)

            lane = self._lanes[port] = Lane(
                plain,
                None,
                self._registry,
                limits.app_idle,
                limits.pool_size,
                Trunk(plain, _never_rotated, self._registry, mesh=False),
                Line(limits.connecting, limits.pending),
            )
        return lane

    async def connect(self, _permit: Permit, port: int, make: MakeProtocol) -> asyncio.Transport:
        """An opaque connection to the app's `port`. Raises ConnectFailed."""
        return await _connect_plain(self.host, port, make, self._limits)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    @property
    def idle(self) -> int:
        return sum(lane.idle for lane in self._lanes.values())

    def _sweep(self, now: float) -> None:
        for lane in self._lanes.values():
            lane.sweep(now)


def avoid(load: Load, seconds: float) -> None:
    """Prefer other endpoints for a while: a connection to this one could not be made."""
    if not load.suspect:
        load.suspect = True
        asyncio.get_running_loop().call_later(seconds, _trust, load)


def _trust(load: Load) -> None:
    load.suspect = False


async def _connect_plain(host: str, port: int, make: MakeProtocol, limits: Limits) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.connect):
            transport, _ = await loop.create_connection(make, host, port)
    except TimeoutError:
        raise ConnectFailed(
            Outcome.CONNECT_TIMEOUT, f"{host}:{port} did not answer in {limits.connect:g} s"
        ) from None
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot encode
        raise ConnectFailed(Outcome.CONNECT_FAILED, f"{host}:{port}: {error}") from error
    watch(transport, limits)
    return transport
