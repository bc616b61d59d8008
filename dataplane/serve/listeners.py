"""Opens the listeners of one proxy, wires their parts together, and ends them.

`start` is the only public entry of this package: everything it needs is handed in, so that tests
run several proxies in one loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from typing import Final

from dataplane.core.outbound import Router
from dataplane.serve import breaking
from dataplane.serve.datagrams import Intercepted, Listener, Replies
from dataplane.serve.gate import Serving
from dataplane.serve.handshakes import Handshakes
from dataplane.serve.hold import Hold
from dataplane.serve.inbound import Inbound
from dataplane.serve.limits import Limits
from dataplane.serve.outbound import Outbound
from dataplane.serve.pool import App, Contexts, Peers
from dataplane.serve.pressure import Pressure
from dataplane.serve.registry import Registry
from dataplane.serve.sockets import Original, keep_alive, original_destination
from dataplane.serve.udp_inbound import UdpInbound
from dataplane.serve.udp_outbound import UdpOutbound
from dataplane.serve.udp_series import UdpCommon, UdpCounters
from dataplane.settings import Interception, Settings
from dataplane.state import State
from dataplane.tap import Tap
from dataplane.tasks import Tasks
from dataplane.telemetry import Telemetry
from dataplane.tracing.tracer import Tracer

BACKLOG: Final = 4096

_log = logging.getLogger("dataplane.serve")


class Running:
    """The open listeners and what they serve."""

    def __init__(
        self,
        serving: Serving,
        servers: list[asyncio.Server],
        router: Router,
        inbound: Inbound,
        peers: Peers,
        app: App,
        udp: Udp,
        waiting: Hold,
    ) -> None:
        self.router = router
        self.inbound = inbound
        self.waiting = waiting
        self._serving = serving
        self._servers = servers
        self._peers = peers
        self._app = app
        self.udp = udp

    @property
    def connections(self) -> int:
        """Connections being served; an upgraded or opaque pair counts once."""
        return len(self._serving.registry)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the listeners are: outbound, mesh, and the plain inbound one where there is one."""
        return [server.sockets[0].getsockname()[:2] for server in self._servers]

    async def drain(self, seconds: float) -> None:
        """Stop accepting, finish what is under way within `seconds`, then close what is left."""
        for server in self._servers:
            server.close()
        finished = await self._serving.registry.drain(seconds)
        if not finished:
            _log.warning("connections were still open after %.0f s of draining", seconds)
        self.udp.close()  # flows have no end to wait for
        self._peers.close()
        self._app.close()
        await self._serving.tasks.cancel()


async def start(
    settings: Settings,
    state: State,
    contexts: Contexts,
    telemetry: Telemetry,
    limits: Limits | None = None,
    original: Original = original_destination,
    intercepted: Intercepted | None = None,
    now: Callable[[], float] = time.time,
    tap: Tap | None = None,
    tracer: Tracer | None = None,
) -> Running:
    """Open the listeners. Raises OSError if an address cannot be bound; then none is open.

    `original` finds out where an intercepted connection was meant to go. `intercepted`: the sockets
    of UDP interception; None without it. They are closed with the listeners. `now`: Unix time.
    `tap`: who looks on, if anybody can. `tracer`: who makes spans, if they are wanted.
    """
    loop = asyncio.get_running_loop()
    limits = limits or Limits()
    tasks = Tasks()
    registry = Registry(loop, limits.tick)
    pressure = Pressure(limits)
    pressure.measure()
    registry.on_tick(pressure.measure)
    serving = Serving(loop, limits, registry, tasks, pressure, tap=tap or Tap(), tracer=tracer)
    peers = Peers(contexts, settings.mesh_port, limits, registry, Handshakes("client", telemetry, now))
    app = App(settings.pod_ip, limits, registry)
    ports = frozenset(
        {settings.outbound_port, settings.inbound_port, settings.mesh_port, settings.admin_port}
    )
    own = frozenset((host, port) for host in (settings.pod_ip, "127.0.0.1", "localhost") for port in ports)
    # Balancing needs spread, not secrecy.
    breakers = breaking.make(serving, settings.workers)
    router = Router(state.cluster, random.random, breakers)
    breaking.follow(state, router, breakers)
    breaking.register(telemetry, breakers)
    outbound = Outbound(serving, state, router, peers, telemetry, own, original)
    common = UdpCommon(UdpCounters(telemetry), settings.udp_idle_seconds)
    inbound = Inbound(
        serving,
        state,
        contexts,
        app,
        telemetry,
        ports,
        original,
        common,
        Handshakes("server", telemetry, now),
        settings.workers,
    )
    wanted = [(outbound.accept, settings.outbound_port), (inbound.accept_mesh, settings.mesh_port)]
    if settings.interception is Interception.IPTABLES:
        wanted.append((inbound.accept_plain, settings.inbound_port))
    servers: list[asyncio.Server] = []
    try:
        for factory, port in wanted:
            sock = _bind(settings.bind, port, limits, shared=settings.workers > 1)
            answer = port != settings.mesh_port  # peer proxies try elsewhere
            accept = pressure.guard(factory, telemetry, answer=answer)
            servers.append(await loop.create_server(accept, sock=sock, backlog=BACKLOG))
    except OSError:
        registry.stop()
        for server in servers:
            server.close()
        raise
    udp = Udp(inbound.udp)
    if intercepted is not None:
        replies = Replies(intercepted.raw)
        outbound_udp = UdpOutbound(
            serving, state, router, peers, common.counters, own, replies.send, common.idle
        )
        udp.intercept(intercepted, outbound_udp, replies)
    _register(telemetry, serving, peers, app)
    telemetry.gauge(
        "smi_mesh_requests_active",
        "Requests and opaque connections under way.",
        ("direction",),
        lambda: [(("outbound",), router.active()), (("inbound",), inbound.active())],
    )
    telemetry.gauge("smi_mesh_udp_flows", "UDP flows held.", ("direction",), udp.held)
    telemetry.gauge(
        "smi_mesh_requests_held",
        "Outbound requests and opaque connections that wait for an endpoint.",
        (),
        lambda: [((), len(outbound.waiting))],
    )
    return Running(serving, servers, router, inbound, peers, app, udp, outbound.waiting)


class Udp:
    """The UDP side of one proxy: peers' carriers, and interception where there is any."""

    def __init__(self, inbound: UdpInbound) -> None:
        self.inbound = inbound
        self.outbound: UdpOutbound | None = None
        self._listeners: tuple[Listener, ...] = ()
        self._replies: Replies | None = None

    def intercept(self, sockets: Intercepted, outbound: UdpOutbound, replies: Replies) -> None:
        """Serve what is intercepted in both directions."""
        self.outbound = outbound
        self._replies = replies
        self.inbound.answer_strangers(replies.send)
        self._listeners = (
            Listener(sockets.outbound, outbound.received),
            Listener(sockets.inbound, self.inbound.received),
        )

    def held(self) -> list[tuple[tuple[str, ...], float]]:
        """Flows by direction, for telemetry."""
        outbound = 0 if self.outbound is None else len(self.outbound)
        return [(("outbound",), outbound), (("inbound",), len(self.inbound))]

    def close(self) -> None:
        """Forget every flow."""
        for listener in self._listeners:
            listener.close()
        if self.outbound is not None:
            self.outbound.close()
        self.inbound.close()
        if self._replies is not None:
            self._replies.close()


def _bind(host: str, port: int, limits: Limits, *, shared: bool) -> socket.socket:
    """A listening socket's beginnings. Raises OSError that names the address.

    `shared`: with the other workers, among whom the kernel shares connections out.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keep_alive(sock, limits)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


def _register(telemetry: Telemetry, serving: Serving, peers: Peers, app: App) -> None:
    telemetry.gauge(
        "smi_mesh_connections", "Connections being served.", (), lambda: [((), len(serving.registry))]
    )
    telemetry.gauge(
        "smi_mesh_pool_idle",
        "Idle pooled connections.",
        ("to",),
        lambda: [(("peers",), peers.idle), (("app",), app.idle)],
    )
