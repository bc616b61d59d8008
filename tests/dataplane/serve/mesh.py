"""A small mesh in one event loop: real listeners, real TLS, in-memory config, scripted servers.

Every pod has a loopback address of its own; all share one ephemeral mesh port, as pods of a real
cluster share 15008.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from dataplane import serve
from dataplane.core.balance import Load
from dataplane.serve.limits import Limits
from dataplane.serve.sockets import Address, Original, original_destination
from dataplane.settings import Interception, Settings
from dataplane.state import State
from dataplane.tap import Tap
from dataplane.telemetry import Own, Telemetry
from dataplane.tracing.semantics import Record, record
from dataplane.tracing.tracer import Tracer
from smi.names import ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, ALPN_UDP, pod_dns_san
from smi.policy.codec import encode_cluster, encode_destination, encode_inbound
from smi.policy.snapshot import (
    Backend,
    Destination,
    Endpoint,
    Grant,
    Inbound,
    InboundPort,
    PortSet,
    Protocol,
    RouteMatch,
    Split,
)
from tests.dataplane.control.authority import Authority
from tests.dataplane.serve.http import Client

API = "api.shop:8080"
QUICK = Limits(tick=0.02, linger=0.5, hold=0.1)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
# Processes that begin together have ids next to each other: each has 1024 addresses before the next one's.
_addresses = itertools.count(os.getpid() % 256 * 1024 + 2)
# Each once: a pod's listeners share its address.
_ports = itertools.cycle(random.sample(range(10_000, 32_000), 22_000))


def spiffe(account: str) -> str:
    return f"spiffe://cluster.local/ns/shop/sa/{account}"


def next_address() -> str:
    """A loopback address of 127.77.0.0/16 … 127.80.0.0/16 that no other test of this process uses."""
    number = next(_addresses)
    return f"127.{77 + (number >> 16) % 4}.{number >> 8 & 255}.{number & 255}"


def free_port() -> int:
    """A port nobody listens on at any address right now.

    None that the kernel gives to who asks for any (ip_local_port_range): a server of a test must not get a
    port that is its pod's own, which no caller may reach.
    """
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_server(("0.0.0.0", next(_ports))) as made,
        ):
            return int(made.getsockname()[1])


class Contexts:
    """TLS contexts of one workload, made when first used; `rotate` replaces them, as a renewal does."""

    def __init__(self, authority: Authority, account: str, pod: str) -> None:
        self._authority = authority
        self._account = account
        self._pod = pod
        self.rotate()

    def rotate(self, account: str | None = None) -> None:
        key, certificate = self._authority.issue(
            spiffe(account or self._account), [pod_dns_san("shop", self._pod)]
        )
        self._credentials = key + certificate
        self._clients: dict[str, ssl.SSLContext] = {}
        self.begin_sessions_anew()

    def begin_sessions_anew(self) -> None:
        self._server: ssl.SSLContext | None = None

    @property
    def server_context(self) -> ssl.SSLContext:
        if self._server is None:
            protocols = [ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, ALPN_UDP]
            self._server = context = self._context(ssl.PROTOCOL_TLS_SERVER, protocols)
            context.num_tickets = 1
            context.options |= ssl.OP_NO_TICKET
            context.sni_callback = _remember
        return self._server

    @property
    def client_context(self) -> ssl.SSLContext:
        return self._client(ALPN_HTTP1)

    @property
    def client_http2_context(self) -> ssl.SSLContext:
        return self._client(ALPN_HTTP2)

    @property
    def client_tcp_context(self) -> ssl.SSLContext:
        return self._client(ALPN_TCP)

    @property
    def client_udp_context(self) -> ssl.SSLContext:
        return self._client(ALPN_UDP)

    def _client(self, alpn: str) -> ssl.SSLContext:
        made = self._clients.get(alpn)
        if made is None:
            made = self._clients[alpn] = self._context(ssl.PROTOCOL_TLS_CLIENT, [alpn])
        return made

    def _context(self, side: Any, alpn: list[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self._authority.bundle)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self._credentials)
            file.flush()
            context.load_cert_chain(file.name)
        context.set_alpn_protocols(alpn)
        return context


def _remember(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    connection.mesh_sni = name  # type: ignore[attr-defined]  # as control.identity does


class Pod:
    """One proxy and its config."""

    def __init__(
        self, name: str, authority: Authority, mesh_port: int, limits: Limits, original: Original, plain: bool
    ) -> None:
        self.name = name
        self.ip = next_address()
        self.contexts = Contexts(authority, name, f"{name}-1")
        self.telemetry = Telemetry()
        self.tap = Tap(self.telemetry, time.time)
        self.tracer: Tracer | None = None
        self.state = State(phase=0)
        self.limits = limits
        self.revision = 0
        self.later = 0.0
        """Seconds by which this proxy's clock is ahead."""
        self._original = original
        self.settings = Settings(
            namespace="shop",
            pod=f"{name}-1",
            pod_ip=self.ip,
            trust_bundle=authority.bundle,
            interception=Interception.EXPLICIT,
            mesh_port=mesh_port,
            outbound_port=free_port(),
            inbound_port=free_port(),
            admin_port=free_port(),
        )
        if plain:
            self.settings = replace(self.settings, interception=Interception.IPTABLES, mesh_port=free_port())
        self.running: serve.Running
        self.callers: list[asyncio.Transport] = []

    @property
    def identity(self) -> str:
        return spiffe(self.name)

    @property
    def outbound(self) -> Address:
        host = "127.0.0.1" if self.settings.bind == "0.0.0.0" else self.ip
        return host, self.settings.outbound_port

    async def start(self) -> None:
        self.running = await serve.start(
            self.settings,
            self.state,
            self.contexts,
            self.telemetry,
            self.limits,
            self._original,
            now=lambda: time.time() + self.later,
            tap=self.tap,
            tracer=self.tracer,
        )

    def apply(self, resources: dict[str, Any], *, full: bool = False, removed: Sequence[str] = ()) -> None:
        """Feed an update as discovery would."""
        self.revision += 1
        for name in resources:
            key = name.removeprefix("destination/")
            if key != name and key not in self.state.subscriptions:
                self.state._ask(key)
        self.state.apply(
            {"revision": self.revision, "full": full, "resources": resources, "removed": list(removed)}
        )

    def admit(
        self,
        *grants: Grant,
        ports: Sequence[tuple[int, Protocol]] = (),
        **settings: Any,
    ) -> None:
        """Set the inbound policy."""
        declared = tuple(InboundPort(port, protocol) for port, protocol in ports)
        policy = Inbound(f"shop/{self.name}-1", self.identity, grants=grants, ports=declared, **settings)
        self.apply({"inbound": encode_inbound(policy)})

    def endpoint(self, port: int) -> Endpoint:
        """This pod as others see it."""
        return Endpoint(self.ip, port, f"shop/{self.name}-1", self.identity)

    def reach(
        self,
        key: str,
        endpoints: Sequence[Endpoint],
        *,
        service: str = "shop/api",
        protocol: Protocol = Protocol.HTTP,
        splits: Sequence[Split] = (),
        clusters: Mapping[str, Sequence[Endpoint]] | None = None,
        full: bool = False,
    ) -> None:
        """Tell this pod what is behind `key`; `full`: and that there is nothing else."""
        name = f"{service}:8080"
        destination = Destination(service, 8080, protocol, name, tuple(splits))
        resources = {f"destination/{key}": encode_destination(destination)}
        for cluster, members in {name: endpoints, **(clusters or {})}.items():
            resources[f"cluster/{cluster}"] = encode_cluster(tuple(members))
        self.apply(resources, full=full)

    def pass_through(self, key: str) -> None:
        """Tell this pod that the mesh knows nothing about `key`."""
        self.apply({f"destination/{key}": encode_destination(Destination())})

    def trace(self, share: float, *forms: str) -> None:
        """Take part in traces, from the start of the proxy."""
        chance = random.Random(self.name)
        self.tracer = Tracer(
            share, forms or ("w3c",), self.telemetry, time.time_ns, chance.random, chance.getrandbits
        )

    def spans(self) -> list[Record]:
        """What has been finished since the last call."""
        assert self.tracer is not None
        own = Own(f"shop/{self.name}-1", "", self.identity)
        return [record(done, own) for done in self.tracer.take(1000)]

    def loads(self) -> list[Load]:
        """How busy this proxy thinks its endpoints are."""
        return [plan.load for _, plans in self.running.router._ways.values() for plan in plans]

    def count(self, direction: str) -> dict[tuple[int, str], int]:
        """Outcomes of HTTP exchanges of one direction."""
        found: dict[tuple[int, str], int] = {}
        for key, series in self.telemetry._http.items():
            if key[0] == direction:
                for outcome, number in series.outcomes.items():
                    found[outcome] = found.get(outcome, 0) + number
        return found


class Mesh:
    """Pods that trust one authority, and the servers of a test."""

    def __init__(self, limits: Limits = QUICK) -> None:
        self.authority = Authority()
        self.mesh_port = free_port()
        self.limits = limits
        self.tracing: tuple[float, tuple[str, ...]] | None = None
        """Share and forms of `Pod.trace` for pods that are made from now on."""
        self.pods: list[Pod] = []
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._others: list[Callable[[], Awaitable[None] | None]] = []
        self._clients: list[Client] = []

    def make(
        self, name: str, *, original: Original = original_destination, plain: bool = False, limits: Any = None
    ) -> Pod:
        """A pod whose proxy is not started."""
        return Pod(name, self.authority, self.mesh_port, limits or self.limits, original, plain)

    async def pod(self, name: str, **rest: Any) -> Pod:
        """A pod with a running proxy, which ends with the test; `rest` as for `make`."""
        pod = self.make(name, **rest)
        if self.tracing is not None:
            pod.trace(self.tracing[0], *self.tracing[1])
        await pod.start()
        self.pods.append(pod)
        return pod

    async def client(self, address: Address, receive_buffer: int = 0, **tls: Any) -> Client:
        """A client's connection; it ends with the test. `receive_buffer`: bytes, 0: the kernel's choice.

        `ssl`, `server_hostname` as `asyncio.open_connection` takes them.
        """
        client = await Client.connect(address, receive_buffer, **tls)
        self._clients.append(client)
        return client

    @staticmethod
    def anything(source: str = "web", target: str = "shop/allow") -> Grant:
        """Lets everything of `source` in, HTTP and opaque."""
        return Grant(target, frozenset({spiffe(source)}), tcp=PortSet(every=True))

    async def serve(self, host: str, handler: Handler, port: int = 0) -> int:
        """A scripted server at an ephemeral port of `host`; its connections end with the test."""

        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # what the proxy does to a server's connection is the test's subject, seen elsewhere
            finally:
                self._handlers.discard(task)
                writer.close()

        server = await asyncio.start_server(guarded, host, port, limit=1 << 20)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def at_end(self, stop: Callable[[], Awaitable[None] | None]) -> None:
        """Have a test's own server stopped when the test is over, also one that failed.

        uvloop's `close` waits for ever for a listener that is still open.
        """
        self._others.append(stop)

    async def stop(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        for pod in self.pods:
            for caller in pod.callers:
                caller.abort()
            await pod.running.drain(0.0)
        for server in self._servers:
            server.close()
        for stop in self._others:
            stopping = stop()
            if stopping is not None:
                await stopping
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await asyncio.sleep(0)  # connection_lost of what was aborted


@asynccontextmanager
async def mesh(limits: Limits = QUICK) -> AsyncIterator[Mesh]:
    made = Mesh(limits)
    try:
        yield made
    finally:
        await made.stop()


async def two_hops(net: Mesh, handler: Handler, **reach: Any) -> tuple[Pod, Pod]:
    """web may call api, where `handler` serves."""
    web, api = await net.pod("web"), await net.pod("api")
    port = await net.serve(api.ip, handler)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)], **reach)
    return web, api


def routes(*matches: RouteMatch, source: str = "web", target: str = "shop/routes") -> Grant:
    return Grant(target, frozenset({spiffe(source)}), http=matches)


def match(path: str | None = None, *methods: str, **headers: str) -> RouteMatch:
    return RouteMatch(
        "shop/group",
        "match",
        path,
        frozenset(methods),
        tuple(sorted((name.replace("_", "-"), pattern) for name, pattern in headers.items())),
    )


def split(
    name: str, weights: dict[str, int], matches: Sequence[RouteMatch] | None = None, **rest: Any
) -> Split:
    backends = tuple(Backend(f"shop/{key}", weight, f"shop/{key}:8080") for key, weight in weights.items())
    return Split(f"shop/{name}", None if matches is None else tuple(matches), backends, **rest)
