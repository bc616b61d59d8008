"""UDP between pods: real sockets, real carriers; only the interception is the test's hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from dataplane.serve.sockets import Address
from dataplane.serve.udp_outbound import UdpOutbound
from dataplane.serve.udp_series import UdpCounters
from smi.policy.codec import encode_cluster, encode_destination
from smi.policy.snapshot import Destination, Endpoint, Grant, PortSet, Protocol, Split
from tests.dataplane.serve.mesh import Mesh, Pod, spiffe
from tests.dataplane.waiting import until

CLOCK: Address = ("10.96.0.9", 5300)
KEY = "udp:10.96.0.9:5300"
CLUSTER = "udp:shop/clock:5300"


def app(number: int = 1) -> Address:
    """Where one socket of the calling app is."""
    return "10.0.0.1", 40000 + number


class Server(asyncio.DatagramProtocol):
    """Answers `<name> <payload>`, and remembers who asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[tuple[bytes, Address]] = []
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's inherits from none of asyncio's

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.seen.append((data, addr))
        self.transport.sendto(self.name.encode() + b" " + data, addr)


class Caller:
    """The outbound side of a pod, with what comes back to its app."""

    def __init__(self, pod: Pod, idle: float = 30.0) -> None:
        self.pod = pod
        self.back: list[tuple[Address, Address, bytes]] = []
        running = pod.running
        self.counters = UdpCounters(pod.telemetry)
        self.udp = UdpOutbound(
            running._serving,
            pod.state,
            running.router,
            running._peers,
            self.counters,
            frozenset({(pod.ip, 15001)}),
            self._reply,
            idle,
        )

    def _reply(self, source: Address, to: Address, payload: bytes) -> bool:
        self.back.append((source, to, payload))
        return True

    def send(self, payload: bytes, number: int = 1, to: Address = CLOCK) -> None:
        self.udp.received(app(number), to, payload)

    async def answers(self, count: int) -> list[bytes]:
        await until(lambda: len(self.back) >= count)
        return [payload for _, _, payload in self.back]


async def listen(net: Mesh, host: str, name: str) -> tuple[int, Server]:
    """A server at an ephemeral port of `host`; it ends with the test."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Server(name), local_addr=(host, 0)
    )
    net.at_end(transport.close)
    return int(transport.get_extra_info("sockname")[1]), server


def reach(pod: Pod, splits: tuple[Split, ...] = (), **clusters: tuple[Endpoint, ...]) -> None:
    """Tell a pod what is behind the clock's address; `clusters` by service name."""
    destination = Destination("shop/clock", 5300, Protocol.UDP, CLUSTER, splits)
    resources = {f"destination/{KEY}": encode_destination(destination)}
    for name, members in clusters.items():
        resources[f"cluster/udp:shop/{name}:5300"] = encode_cluster(members)
    pod.apply(resources)


def grant(port: int, source: str = "web") -> Grant:
    return Grant("shop/ask", frozenset({spiffe(source)}), udp=PortSet(ports=frozenset({port})))


def dropped(pod: Pod) -> dict[tuple[str, ...], int]:
    return dict(pod.telemetry.counter("smi_mesh_udp_dropped_total", "", ("direction", "reason")).values)


def denials(pod: Pod) -> Counter[str]:
    values = pod.telemetry.counter("smi_mesh_denials_total", "", ("reason", "id", "target")).values
    return Counter({labels[0]: count for labels, count in values.items()})


class Pair:
    """web calls clock."""

    def __init__(self, net: Mesh) -> None:
        self.net = net

    async def begin(self, idle: float = 30.0) -> None:
        web, self.clock = await self.net.pod("web"), self.net.make("clock")
        self.clock.settings = replace(self.clock.settings, udp_idle_seconds=idle)
        await self.clock.start()
        self.net.pods.append(self.clock)
        self.port, self.server = await listen(self.net, self.clock.ip, "clock")
        web.admit()
        self.caller = Caller(web, idle)
        self.net.at_end(self.caller.udp.close)
        reach(web, clock=(self.clock.endpoint(self.port),))
