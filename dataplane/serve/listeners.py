"""Opens the listeners of one proxy, wires their parts together, and ends them.

`start` is the only public entry of this package: everything it needs is handed in, so that tests
run several proxies in one loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from typing import Final

from dataplane.core.outbound import Router
from dataplane.serve.http_server import Serving
from dataplane.serve.inbound import Inbound
from dataplane.serve.limits import Limits
from dataplane.serve.outbound import Outbound
from dataplane.serve.pool import App, Contexts, Peers
from dataplane.serve.registry import Registry
from dataplane.serve.sockets import Original, original_destination
from dataplane.settings import Interception, Settings
from dataplane.state import State
from dataplane.tasks import Tasks
from dataplane.telemetry import Telemetry

BACKLOG: Final = 4096

_log = logging.getLogger("dataplane.serve")


class Running:
    """The open listeners and what they serve."""

    def __init__(
        self, serving: Serving, servers: list[asyncio.Server], router: Router, peers: Peers, app: App
    ) -> None:
        self.router = router
        self._serving = serving
        self._servers = servers
        self._peers = peers
        self._app = app

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
) -> Running:
    """Open the listeners. Raises OSError if an address cannot be bound; then none is open.

    `original` finds out where an intercepted connection was meant to go.
    """
    loop = asyncio.get_running_loop()
    limits = limits or Limits()
    tasks = Tasks()
    registry = Registry(loop, limits.tick)
    serving = Serving(loop, limits, registry, tasks)
    peers = Peers(contexts, settings.mesh_port, limits, registry)
    app = App(settings.pod_ip, limits, registry)
    ports = frozenset(
        {settings.outbound_port, settings.inbound_port, settings.mesh_port, settings.admin_port}
    )
    own = frozenset((host, port) for host in (settings.pod_ip, "127.0.0.1", "localhost") for port in ports)
    # Balancing needs spread, not secrecy.
    router = Router(state.cluster, random.random)
    outbound = Outbound(serving, state, router, peers, telemetry, own, original)
    inbound = Inbound(serving, state, contexts, app, telemetry, ports, original)
    wanted = [(outbound.accept, settings.outbound_port), (inbound.accept_mesh, settings.mesh_port)]
    if settings.interception is Interception.IPTABLES:
        wanted.append((inbound.accept_plain, settings.inbound_port))
    servers: list[asyncio.Server] = []
    try:
        for factory, port in wanted:
            sock = _bind(settings.bind, port)
            servers.append(await loop.create_server(factory, sock=sock, backlog=BACKLOG))
    except OSError:
        registry.stop()
        for server in servers:
            server.close()
        raise
    _register(telemetry, serving, peers, app)
    return Running(serving, servers, router, peers, app)


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket's beginnings. Raises OSError that names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
