"""Our sidecars as processes: `python -m dataplane` in explicit mode, each at its own loopback address."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.controller import NAMESPACE, Controller, Pod, spiffe
from benchmarks.processes import PROXY_CORE, Address, NotStarted, Running, free_ports, python, started
from dataplane.compiled import search_path
from smi.names import UDP_KEY
from smi.policy.snapshot import (
    Backend,
    Destination,
    Endpoint,
    Grant,
    Inbound,
    PortSet,
    Protocol,
    RouteMatch,
    Split,
)

OUT: Final = "127.88.0.2"
IN: Final = "127.88.0.3"
_OTHERS: Final = {
    "": (OUT, IN),
    "-bare": ("127.88.0.5", "127.88.0.6"),
    "-logged": ("127.88.0.7", "127.88.0.8"),
    "-sampled": ("127.88.0.9", "127.88.0.10"),
    "-tapped": ("127.88.0.11", "127.88.0.12"),
}
WIDE_PORT: Final = 8080
_READY_SECONDS: Final = 20.0


def out_ip(suffix: str) -> str:
    """Address of the pod that calls, of the pair with this suffix (see `configure`)."""
    return _OTHERS[suffix][0]


def in_ip(suffix: str) -> str:
    """Address of the pod that serves."""
    return _OTHERS[suffix][1]


@dataclass(frozen=True, slots=True)
class Ports:
    """The listeners' ports, the same at every address, as in pods."""

    outbound: int
    inbound: int
    mesh: int
    admin: int


@dataclass(frozen=True, slots=True)
class Sidecar:
    running: Running
    ip: str
    ports: Ports
    ready_seconds: float
    """From the start of the process to the first 200 of /ready."""

    @property
    def outbound(self) -> Address:
        return self.ip, self.ports.outbound

    @property
    def mesh(self) -> Address:
        return self.ip, self.ports.mesh


@asynccontextmanager
async def sidecar(
    controller: Controller,
    folder: Path,
    name: str,
    ip: str,
    ports: Ports,
    *,
    cores: Sequence[int] = (PROXY_CORE,),
    workers: int = 1,
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[Sidecar]:
    """A ready sidecar of pod `name`; `more`: variables of its environment. Raises NotStarted."""
    env = environment(controller, folder, name, ip, ports) | dict(more or {})
    if workers > 1:
        env["SMI_MESH_WORKERS"] = str(workers)
    began = time.monotonic()
    with started(f"sidecar-{name}", python("-m", "dataplane"), folder, cores=cores, env=env) as running:
        await ready(running, ip, ports.admin)
        yield Sidecar(running, ip, ports, time.monotonic() - began)


def environment(controller: Controller, folder: Path, name: str, ip: str, ports: Ports) -> dict[str, str]:
    """What a sidecar of pod `name` finds in its environment, in explicit mode."""
    token = folder / f"{name}.token"
    token.write_text(name)
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("SMI_MESH_")},
        "POD_NAME": f"{name}-1",
        "POD_NAMESPACE": NAMESPACE,
        "POD_IP": ip,
        "SMI_MESH_CONTROLLER": "127.0.0.1",
        "SMI_MESH_TRUST_BUNDLE": controller.authority.bundle,
        "SMI_MESH_TOKEN_FILE": str(token),
        "SMI_MESH_INTERCEPTION": "explicit",
        "SMI_MESH_LOG_LEVEL": "warning",
        "SMI_MESH_DISCOVERY_PORT": str(controller.discovery_port),
        "SMI_MESH_IDENTITY_PORT": str(controller.identity_port),
        "SMI_MESH_OUTBOUND_PORT": str(ports.outbound),
        "SMI_MESH_INBOUND_PORT": str(ports.inbound),
        "SMI_MESH_MESH_PORT": str(ports.mesh),
        "SMI_MESH_ADMIN_PORT": str(ports.admin),
        "SMI_MESH_DRAIN_SECONDS": "0",
        # As shipped: compiled where there is a compiler, else the sources; never the working directory.
        "PYTHONPATH": search_path(),
        "PYTHONSAFEPATH": "1",
    }


async def ready(running: Running, ip: str, port: int) -> None:
    """Return once the sidecar with this admin address is ready. Raises NotStarted."""
    url = f"http://{ip}:{port}/ready"
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with await asyncio.to_thread(urllib.request.urlopen, url, None, 1):
                return
        except (urllib.error.URLError, OSError):
            if running.process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"{running.log.stem} is not ready: {running.tail()}") from None
            await asyncio.sleep(0.01)


def ports() -> Ports:
    return Ports(*free_ports(4))


def configure(controller: Controller, backend: int, stream: int, h2: int, suffix: str = "") -> None:
    """Two pods: `web` calls, `api` serves at ports `backend` (HTTP/1.1), `stream` (bytes) and `h2`.

    `suffix`: of the names of another such pair.

    Every destination has a split in halves over two backends, of which both are the same server;
    with `one.` hosts that server is outside the mesh, with `two.` it is behind the other sidecar.
    Splits are chosen by a match on method and path, admission is by route, as Envoy's RBAC is.
    """
    match = RouteMatch(f"{NAMESPACE}/routes", "all", "/(api|bytes)/.*", frozenset({"GET", "POST"}), ())
    caller, server = f"web{suffix}", f"api{suffix}"
    web = Pod(caller, Inbound(f"{NAMESPACE}/{caller}-1", spiffe(caller)))
    grants = (
        Grant(f"{NAMESPACE}/routes", frozenset({spiffe(caller)}), http=(match,)),
        Grant(f"{NAMESPACE}/bytes", frozenset({spiffe(caller)}), port=stream, tcp=PortSet(every=True)),
    )
    api = Pod(server, Inbound(f"{NAMESPACE}/{server}-1", spiffe(server), grants=grants))
    works = (
        ("http", backend, Protocol.HTTP, (match,)),
        ("h2", h2, Protocol.HTTP2, (match,)),
        ("grpc", h2, Protocol.GRPC, (match,)),
        ("bytes", stream, Protocol.TCP, None),
    )
    for kind, port, protocol, matches in works:
        plain = Endpoint("127.0.0.1", port)
        meshed = Endpoint(in_ip(suffix), port, f"{NAMESPACE}/{server}-1", spiffe(server))
        for hops, endpoint in (("one", plain), ("two", meshed)):
            _reach(web, f"{hops}.{kind}", endpoint, protocol, matches)
    controller.pods |= {caller: web, server: api}


def configure_wide(controller: Controller, services: int, endpoints: int) -> None:
    """Pod `wide`, in a cluster with so many services of so many endpoints each."""
    wide = Pod("wide", Inbound(f"{NAMESPACE}/wide-1", spiffe("wide")))
    for number in range(services):
        name = f"{NAMESPACE}/service-{number}"
        ips = wide_ips(number, endpoints)
        members = tuple(Endpoint(ip, WIDE_PORT, f"{name}-{ip}", spiffe("api")) for ip in ips)
        cluster = f"{name}:{WIDE_PORT}"
        backends = tuple(Backend(f"{name}-{half}", 50, f"{cluster}-{half}") for half in ("v1", "v2"))
        for half, share in (("v1", members[::2]), ("v2", members[1::2])):
            wide.clusters[f"{cluster}-{half}"] = share
        wide.clusters[cluster] = members
        split = Split(f"{name}-split", None, backends)
        wide.destinations[f"service-{number}.{NAMESPACE}:{WIDE_PORT}"] = Destination(
            name, WIDE_PORT, Protocol.HTTP, cluster, (split,)
        )
    controller.pods["wide"] = wide


def wide_ips(number: int, endpoints: int) -> list[str]:
    """Addresses of the endpoints of `configure_wide`'s service `number`; some share theirs."""
    return [f"127.90.{number % 256}.{place + 1}" for place in range(endpoints)]


def _reach(
    pod: Pod, name: str, endpoint: Endpoint, protocol: Protocol, matches: tuple[RouteMatch, ...] | None
) -> None:
    service = f"{NAMESPACE}/{name.replace('.', '-')}"
    backends = tuple(Backend(f"{service}-{half}", 50, f"{service}-{half}:80") for half in ("a", "b"))
    split = Split(f"{service}-split", matches, backends)
    pod.destinations[f"{name}:80"] = Destination(service, 80, protocol, f"{service}:80", (split,))
    for cluster in (f"{service}:80", *(backend.cluster for backend in backends)):
        pod.clusters[cluster] = (endpoint,)


def configure_datagrams(controller: Controller, server: Address) -> None:
    """Pod `udp`, which sends datagrams to `server`, outside the mesh; flows are split in halves."""
    ip, port = server
    service, cluster = f"{NAMESPACE}/datagrams", f"udp:{NAMESPACE}/datagrams"
    backends = tuple(Backend(f"{service}-{half}", 50, f"{cluster}-{half}:{port}") for half in ("a", "b"))
    pod = Pod("udp", Inbound(f"{NAMESPACE}/udp-1", spiffe("udp")))
    pod.destinations[f"{UDP_KEY}{ip}:{port}"] = Destination(
        service, port, Protocol.UDP, f"{cluster}:{port}", (Split(f"{service}-split", None, backends),)
    )
    for name in (f"{cluster}:{port}", *(backend.cluster for backend in backends)):
        pod.clusters[name] = (Endpoint(ip, port),)
    controller.pods["udp"] = pod
