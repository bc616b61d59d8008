"""The network anybody can have: pods are 127.10.x.y, services userspace listeners on 127.96.x.y.

Nothing is redirected and there is no DNS: applications bind to `$(POD_IP)` and reach others through the
sidecar as an explicit proxy (`HTTP_PROXY`) or through a service's address. What this cannot do is in
`limits`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import ipaddress
import itertools
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

from localmesh.node.network import AddressPool, Attachment, NetworkError, Plan
from localmesh.node.services import Backend, ServicePort, ServiceTable
from localmesh.tasks import TaskGroup

POD_BLOCKS: Final = ipaddress.IPv4Network("127.10.0.0/16")
SERVICE_BLOCKS: Final = ipaddress.IPv4Network("127.96.0.0/16")
BLOCK_PREFIX: Final = 20
CLAIM_PORT: Final = 10256
CONNECT_S: Final = 5.0
CHUNK: Final = 64 * 1024


def block_plan(index: int) -> Plan:
    pods = list(POD_BLOCKS.subnets(new_prefix=BLOCK_PREFIX))[index]
    services = list(SERVICE_BLOCKS.subnets(new_prefix=BLOCK_PREFIX))[index]
    return Plan(str(pods), str(services), str(pods[1]), "127.0.0.1")


class LoopbackNetwork:
    """See the module. Made by `create`."""

    isolated = False

    def __init__(self, plan: Plan, claim: socket.socket) -> None:
        self.plan = plan
        self._claim = claim
        self._pool = AddressPool(plan.pod_cidr)
        self._relays: dict[tuple[str, int], _Relay] = {}
        self._refused: dict[str, str] = {}
        self._udp: set[str] = set()

    @classmethod
    async def create(cls, cluster: str, preferred_service_cidr: str = "") -> LoopbackNetwork:
        """Claim a block of addresses; the claim is a bound socket, so a crash gives it back."""
        start = int(hashlib.sha256(cluster.encode()).hexdigest(), 16) % 16
        plans = [block_plan((start + step) % 16) for step in range(16)]
        plans.sort(key=lambda plan: plan.service_cidr != preferred_service_cidr)
        for plan in plans:
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                claim.bind((plan.node_address, CLAIM_PORT))
            except OSError:
                claim.close()
                continue
            return cls(plan, claim)
        raise NetworkError(
            f"no free block in {POD_BLOCKS}: this machine has no 127.0.0.0/8 on its loopback device, "
            "or sixteen clusters run already"
        )

    async def attach(self, pod: Mapping[str, Any]) -> Attachment:
        uid = pod["metadata"]["uid"]
        return Attachment(self._pool.take(uid, (pod.get("status") or {}).get("podIP") or ""))

    async def detach(self, uid: str) -> None:
        self._pool.release(uid)

    async def publish(self, table: ServiceTable) -> None:
        wanted: dict[tuple[str, int], ServicePort] = {}
        self._udp = {port.key for port in table.ports if port.protocol != "TCP"}
        for port in table.ports:
            if port.protocol != "TCP":
                continue
            if port.address:
                wanted[(port.address, port.port)] = port
            if port.node_port:
                wanted[(self.plan.node_address, port.node_port)] = port
        for place in [place for place in self._relays if place not in wanted]:
            await self._relays.pop(place).close()
        self._refused = {}
        for place, port in wanted.items():
            await self._serve(place, port)

    async def _serve(self, place: tuple[str, int], port: ServicePort) -> None:
        if not port.backends and place in self._relays:  # no endpoint: connections are refused, as with DNAT
            await self._relays.pop(place).close()
        if not port.backends:
            return
        relay = self._relays.get(place)
        if relay is not None:
            relay.use(port.backends)
            return
        relay = _Relay(port.backends)
        try:
            await relay.start(*place)
        except OSError as error:
            why = (
                "ports below 1024 need root" if error.errno == errno.EACCES else str(error.strerror or error)
            )
            self._refused[port.key] = why
            return
        self._relays[place] = relay

    def limits(self) -> list[str]:
        found = [
            (
                "Loopback mode: pods share this machine's network and files; nothing keeps a pod from "
                "bypassing its sidecar, so identities and denials hold only for traffic through the proxies."
            ),
            "No traffic is redirected: applications must honour HTTP_PROXY, or use a service's address.",
            "No cluster DNS: service names work through the proxy only.",
            (
                "A container must listen on its $(POD_IP); hard-coded mount paths are not there: values that "
                "begin with a mountPath are rewritten to the real directory."
            ),
            "Services are TCP only and UDP is not intercepted: a UDPRoute enforces nothing here.",
            "runAsUser and runAsGroup have no effect.",
        ]
        found += [
            f"Service port {key} has no listener of its own: {why}."
            for key, why in sorted(self._refused.items())
        ]
        found += [f"Service port {key} is not served: only TCP is." for key in sorted(self._udp)]
        return found

    async def close(self) -> None:
        for relay in self._relays.values():
            await relay.close()
        self._relays.clear()
        self._claim.close()


class _Relay:
    """One listener that spreads its connections over the endpoints in turn."""

    def __init__(self, backends: tuple[Backend, ...]) -> None:
        self._backends = backends
        self._turn: Iterator[int] = itertools.count()
        self._server: asyncio.Server | None = None
        self._open = TaskGroup("relay")

    def use(self, backends: tuple[Backend, ...]) -> None:
        self._backends = backends

    async def start(self, address: str, port: int) -> None:
        self._server = await asyncio.start_server(
            self._accept, address, port, reuse_address=True, limit=CHUNK
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backends = self._backends
        try:
            for _ in range(len(backends)):
                backend = backends[next(self._turn) % len(backends)]
                try:
                    async with asyncio.timeout(CONNECT_S):
                        far_reader, far_writer = await asyncio.open_connection(
                            backend.address, backend.port, limit=CHUNK
                        )
                except OSError:  # includes TimeoutError: the next endpoint may answer
                    continue
                await _join(reader, writer, far_reader, far_writer)
                return
        finally:
            writer.close()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()


async def _join(
    near_reader: asyncio.StreamReader,
    near_writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Pass bytes both ways until both sides are done; a half-close is passed on."""
    try:
        await asyncio.gather(_pump(near_reader, far_writer), _pump(far_reader, near_writer))
    except OSError:
        return  # one side was reset; closing both passes that on
    finally:
        far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
