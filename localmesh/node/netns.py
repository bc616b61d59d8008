"""The real network (needs root): every pod a network namespace, services as DNAT, a DNS server.

Layout: one namespace for the node (`smi-<id>-node`) holds all rules and all pod veths; one veth joins it to
the host, which gets three routes and no rule. Pods have a /32 each and reach everything through the node,
so that ClusterIP translation also holds between pods. Removing the namespaces and the veth removes it all.

    host --smi<id>h=host0-- [node: iptables, DNS :53] --p<pod>=eth0-- [pod]
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import ipaddress
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from localmesh.node import dns, iptables
from localmesh.node.network import AddressPool, Attachment, NetworkError, Plan
from localmesh.node.services import ServiceTable

T = TypeVar("T")

NETNS_DIR: Final = Path("/run/netns")
POD_BLOCKS: Final = ipaddress.IPv4Network("10.240.0.0/12")
SERVICE_BLOCKS: Final = ipaddress.IPv4Network("10.96.0.0/12")
BLOCK_PREFIX: Final = 20
CLONE_NEWNET: Final = 0x40000000
COMMAND_TIMEOUT_S: Final = 20.0


def run_command(argv: list[str], text: str = "") -> str:
    """Run a system tool; raises NetworkError with its own words."""
    try:
        done = subprocess.run(  # noqa: S603 (fixed tools, our arguments)
            argv, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise NetworkError(f"{argv[0]} is not installed (needed for mode netns): {error}") from error
    except subprocess.TimeoutExpired as error:
        raise NetworkError(f"{' '.join(argv)} did not end within {COMMAND_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _batch(lines: list[str], netns: str = "") -> None:
    run_command(["ip", *(("-n", netns) if netns else ()), "-batch", "-"], "\n".join(lines) + "\n")


def in_namespace(path: Path, work: Callable[[], T]) -> T:
    """Run `work` in a thread that has entered the network namespace (sockets made there stay there)."""
    result: list[T] = []
    failure: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(descriptor, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), str(path))
            finally:
                os.close(descriptor)
            result.append(work())
        except BaseException as error:  # noqa: BLE001 (carried over to the calling thread)
            failure.append(error)

    thread = threading.Thread(target=enter_and_work, name=f"setns {path.name}")
    thread.start()  # a thread of its own: it never has to find its way back
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def netns_names(cluster: str) -> list[str]:
    """Network namespaces of the cluster, also of one that crashed."""
    prefix = f"smi-{cluster}-"
    if not NETNS_DIR.is_dir():
        return []
    return sorted(entry.name for entry in NETNS_DIR.iterdir() if entry.name.startswith(prefix))


def node_netns(cluster: str) -> Path:
    """The network namespace of the cluster's node: where every pod's link ends."""
    return NETNS_DIR / f"smi-{cluster}-node"


def pod_netns(cluster: str, uid: str) -> Path:
    """The network namespace of one pod."""
    return NETNS_DIR / f"smi-{cluster}-{_short(uid)}"


def _short(uid: str) -> str:
    return uid.replace("-", "")[:10]


def host_link(cluster: str) -> str:
    return f"smi{cluster}h"


def sweep(cluster: str) -> int:
    """Remove every namespace and link of the cluster; returns how many there were."""
    removed = 0
    if Path(f"/sys/class/net/{host_link(cluster)}").exists():
        with contextlib.suppress(NetworkError):  # it may vanish together with its peer meanwhile
            run_command(["ip", "link", "delete", host_link(cluster)])
        removed += 1
    for name in netns_names(cluster):
        run_command(["ip", "netns", "delete", name])
        removed += 1
    return removed


def missing_tools() -> list[str]:
    """What mode netns needs and this machine lacks, in words; empty = it can be used."""
    if os.geteuid() != 0:
        return ["root"]
    paths = [Path(directory) for directory in os.environ.get("PATH", os.defpath).split(":")]
    tools = ("ip", "iptables-restore", "nsenter")
    lacking = [f"the command {tool}" for tool in tools if not any((path / tool).exists() for path in paths)]
    if lacking:
        return lacking
    name = f"smi-probe-{os.getpid()}"
    try:
        run_command(["ip", "netns", "add", name])
    except NetworkError as error:
        return [f"the right to make network namespaces ({error})"]
    try:
        run_command(["nsenter", f"--net={NETNS_DIR / name}", "iptables-restore"], "*nat\nCOMMIT\n")
    except NetworkError as error:
        return [f"iptables with the nat table ({error})"]
    finally:
        run_command(["ip", "netns", "delete", name])
    return []


_UDP_PROBE: Final = """*mangle
:SMI-PROBE - [0:0]
-A SMI-PROBE -p udp -i lo -m mark --mark 0x1 -m addrtype --dst-type LOCAL -j TPROXY --on-port 1
-A SMI-PROBE -p udp -m conntrack --ctdir REPLY -j MARK --set-xmark 0x1
COMMIT
"""


def can_intercept_udp() -> bool:
    """Whether the kernel has what the mesh needs to intercept UDP; tried in a namespace of its own."""
    name = f"smi-probe-udp-{os.getpid()}"
    try:
        run_command(["ip", "netns", "add", name])
        try:
            run_command(["nsenter", f"--net={NETNS_DIR / name}", "iptables-restore"], _UDP_PROBE)
        finally:
            run_command(["ip", "netns", "delete", name])
    except NetworkError:
        return False
    return True


def _used_networks() -> list[ipaddress.IPv4Network]:
    routes = json.loads(run_command(["ip", "-4", "-json", "route", "show", "table", "all"]) or "[]")
    found = []
    for route in routes:
        text = str(route.get("dst", ""))
        if re.fullmatch(r"[0-9.]+(/\d+)?", text):
            found.append(ipaddress.IPv4Network(text, strict=False))
    return found


def block_plan(index: int) -> Plan:
    """Addresses of block `index` (0-255)."""
    pods = list(POD_BLOCKS.subnets(new_prefix=BLOCK_PREFIX))[index]
    services = list(SERVICE_BLOCKS.subnets(new_prefix=BLOCK_PREFIX))[index]
    return Plan(str(pods), str(services), str(pods[1]), str(pods[2]))


def candidate_plans(cluster: str, used: list[ipaddress.IPv4Network], preferred: str = "") -> list[Plan]:
    """Free blocks in the order to try them: the one used before, then from a place that depends on the id."""
    start = int(hashlib.sha256(cluster.encode()).hexdigest(), 16) % 256
    plans = [block_plan((start + step) % 256) for step in range(256)]
    if preferred:
        plans.sort(key=lambda plan: plan.service_cidr != preferred)

    def free(plan: Plan) -> bool:
        blocks = ipaddress.IPv4Network(plan.pod_cidr), ipaddress.IPv4Network(plan.service_cidr)
        return not any(block.overlaps(other) for block in blocks for other in used if other.prefixlen > 4)

    return [plan for plan in plans if free(plan)]


class NetnsNetwork:
    """See the module. Made by `create`; `close` removes it."""

    isolated = True

    def __init__(self, cluster: str, domain: str, plan: Plan) -> None:
        self.plan = plan
        self._cluster = cluster
        self._domain = domain
        self._node = node_netns(cluster).name
        self._pool = AddressPool(plan.pod_cidr)
        self._dns = dns.DnsServer(domain)
        self._rules = ""
        self._attached: dict[str, str] = {}
        self._udp = True

    @classmethod
    async def create(cls, cluster: str, domain: str, preferred_service_cidr: str = "") -> NetnsNetwork:
        """Sweep leftovers, claim free address blocks, build the node's namespace. Raises NetworkError."""
        plan = await asyncio.to_thread(_build_node, cluster, preferred_service_cidr)
        network = cls(cluster, domain, plan)
        network._udp = await asyncio.to_thread(can_intercept_udp)
        udp, tcp = await asyncio.to_thread(in_namespace, network._node_path, network._dns_sockets)
        await network._dns.start(udp, tcp)
        await network.publish(ServiceTable())
        return network

    @property
    def _node_path(self) -> Path:
        return NETNS_DIR / self._node

    def _dns_sockets(self) -> tuple[socket.socket, socket.socket]:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((self.plan.node_address, 53))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((self.plan.node_address, 53))
        tcp.listen(64)
        for made in (udp, tcp):
            made.setblocking(False)
        return udp, tcp

    async def attach(self, pod: Mapping[str, Any]) -> Attachment:
        meta = pod["metadata"]
        uid: str = meta["uid"]
        name = pod_netns(self._cluster, uid).name
        address = self._pool.take(uid, (pod.get("status") or {}).get("podIP") or "")
        self._attached[uid] = name
        try:
            await asyncio.to_thread(self._wire, name, f"p{_short(uid)}", address)
        except NetworkError:
            await self.detach(uid)
            raise
        return Attachment(address, str(NETNS_DIR / name), self._pod_files(pod, address))

    def _wire(self, netns: str, link: str, address: str) -> None:
        node = self.plan.node_address
        run_command(["ip", "netns", "add", netns])
        _batch(
            [
                f"link add {link} type veth peer name eth0 netns {netns}",
                f"link set {link} up",
                f"route add {address}/32 dev {link} scope link src {node}",
            ],
            self._node,
        )
        _batch(
            [
                "link set lo up",
                f"addr add {address}/32 dev eth0",
                "link set eth0 up",
                f"route add {node}/32 dev eth0 scope link",
                f"route add default via {node} dev eth0",
            ],
            netns,
        )

    def _pod_files(self, pod: Mapping[str, Any], address: str) -> dict[str, str]:
        meta, spec = pod["metadata"], pod.get("spec") or {}
        hostname = spec.get("hostname") or meta["name"]
        hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost", f"{address}\t{hostname}"]
        aliases = spec.get("hostAliases") or ()
        hosts += [f"{alias['ip']}\t{' '.join(alias.get('hostnames') or ())}" for alias in aliases]
        return {
            "/etc/resolv.conf": self._resolv_conf(pod),
            "/etc/hosts": "\n".join(hosts) + "\n",
            "/etc/hostname": hostname + "\n",
        }

    def _resolv_conf(self, pod: Mapping[str, Any]) -> str:
        spec = pod.get("spec") or {}
        config = spec.get("dnsConfig") or {}
        namespace, domain = pod["metadata"]["namespace"], self._domain
        cluster_first = spec.get("dnsPolicy") != "None"
        search = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain] if cluster_first else []
        servers = [self.plan.node_address] if cluster_first else []
        options = ["ndots:5"] if cluster_first else []
        for option in config.get("options") or ():
            value = option.get("value")
            options.append(f"{option['name']}:{value}" if value else str(option["name"]))
        servers += config.get("nameservers") or []
        search += config.get("searches") or []
        lines = [f"nameserver {server}" for server in servers]
        lines += [f"search {' '.join(search)}"] if search else []
        lines += [f"options {' '.join(options)}"] if options else []
        return "\n".join(lines) + "\n"

    async def detach(self, uid: str) -> None:
        name = self._attached.pop(uid, None)
        self._pool.release(uid)
        if name is not None and (NETNS_DIR / name).exists():
            await asyncio.to_thread(run_command, ["ip", "netns", "delete", name])

    async def publish(self, table: ServiceTable) -> None:
        self._dns.zone = dns.build_zone(table, self._domain)
        rules = iptables.render(table, self.plan.node_address, self.plan.service_cidr)
        if rules != self._rules:
            command = ["nsenter", f"--net={self._node_path}", "iptables-restore", "-w", "5"]
            await asyncio.to_thread(run_command, command, rules)
            self._rules = rules

    def limits(self) -> list[str]:
        found = [
            "Pods have no way out of this machine; DNS answers cluster names only.",
            "Services balance at random; sessionAffinity and externalTrafficPolicy have no effect.",
            "NodePorts answer on the node's address, not on localhost.",
        ]
        if not self._udp:
            found.append(
                "UDP is not intercepted (the kernel lacks TPROXY): a UDPRoute enforces nothing here."
            )
        return found

    async def close(self) -> None:
        await self._dns.close()
        await asyncio.to_thread(sweep, self._cluster)


def _build_node(cluster: str, preferred: str) -> Plan:
    sweep(cluster)
    node, link = node_netns(cluster).name, host_link(cluster)
    run_command(["ip", "netns", "add", node])
    try:
        in_namespace(NETNS_DIR / node, _set_forwarding)
        run_command(["ip", "link", "add", link, "type", "veth", "peer", "name", "host0", "netns", node])
        plan = _claim(cluster, link, preferred)
        _batch(
            [
                "link set lo up",
                f"addr add {plan.node_address}/32 dev host0",
                "link set host0 up",
                f"route add {plan.api_address}/32 dev host0 scope link src {plan.node_address}",
                f"route add {plan.service_cidr} dev host0",  # only so that FORWARD gets to refuse it
            ],
            node,
        )
    except BaseException:
        sweep(cluster)
        raise
    return plan


def _set_forwarding() -> None:
    base = Path("/proc/sys/net/ipv4")
    (base / "ip_forward").write_text("1")
    for scope in ("all", "default"):
        (base / "conf" / scope / "rp_filter").write_text("0")


def _claim(cluster: str, link: str, preferred: str) -> Plan:
    """Take address blocks by adding their routes, which fails if another cluster was faster."""
    for plan in candidate_plans(cluster, _used_networks(), preferred):
        gateway, own = plan.node_address, plan.api_address
        lines = [
            f"addr add {own}/32 dev {link}",
            f"link set {link} up",
            f"route add {gateway}/32 dev {link} scope link src {own}",
            f"route add {plan.pod_cidr} via {gateway} dev {link} src {own}",
            f"route add {plan.service_cidr} via {gateway} dev {link} src {own}",
        ]
        try:
            _batch(lines)
        except NetworkError as error:
            if "File exists" not in str(error):
                raise
            run_command(["ip", "addr", "flush", "dev", link])
            continue
        return plan
    raise NetworkError(
        f"no free address block in {POD_BLOCKS} and {SERVICE_BLOCKS}; stop another cluster first"
    )
