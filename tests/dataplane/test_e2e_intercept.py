"""The redirect rules in the kernel: two network namespaces, real connections, real iptables."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dataplane.intercept import INBOUND_CHAIN, OUTBOUND_CHAIN
from smi.names import PROXY_ID

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="iptables is not installed"),
]

POD_IP = "198.18.0.1"
OUTSIDE_IP = "198.18.0.2"

# Listens on the ports given and says on each connection which port it is and where it was meant to go.
_SERVER = """
import asyncio, socket, struct, sys
async def serve(port):
    async def greet(reader, writer):
        connection = writer.get_extra_info("socket")
        try:
            raw = connection.getsockopt(socket.SOL_IP, 80, 16)
            meant_port, meant_ip = struct.unpack("!2xH4s8x", raw)
            meant = f"{socket.inet_ntoa(meant_ip)}:{meant_port}"
        except OSError:  # nothing in this namespace translates addresses, or it is IPv6
            meant = "%s:%d" % connection.getsockname()[:2]
        writer.write(f"{port} for {meant}".encode())
        writer.close()
    await asyncio.start_server(greet, ["0.0.0.0", "::"], port)
async def main():
    for port in sys.argv[1:]:
        await serve(int(port))
    print("up", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
_CLIENT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as connection:
        print(connection.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""


@dataclass(frozen=True)
class Pair:
    """Names of two namespaces joined by a veth: the pod's and an outsider's."""

    pod: str
    outside: str

    def run(self, where: str, *command: str, **environ: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", where, *command],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, **environ},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def connect(self, where: str, ip: str, port: int, *, as_proxy: bool = False) -> str:
        become = [] if not as_proxy else ["setpriv", f"--regid={PROXY_ID}", "--clear-groups"]
        return self.run(where, *become, sys.executable, "-c", _CLIENT, ip, str(port))

    def intercept(self, **environ: str) -> None:
        self.run(self.pod, sys.executable, "-m", "dataplane.intercept", **environ)


def _listen(where: str, *ports: int) -> subprocess.Popen[str]:
    command = ["ip", "netns", "exec", where, sys.executable, "-c", _SERVER, *map(str, ports)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"
    return server


@pytest.fixture
def pair() -> Iterator[Pair]:
    tag = secrets.token_hex(3)
    names = Pair(f"c2-{tag}-pod", f"c2-{tag}-out")
    commands = f"""
        ip netns add {names.pod}
        ip netns add {names.outside}
        ip -n {names.pod} link add e{tag} type veth peer name e{tag} netns {names.outside}
        ip -n {names.pod} addr add {POD_IP}/30 dev e{tag}
        ip -n {names.outside} addr add {OUTSIDE_IP}/30 dev e{tag}
        ip -n {names.pod} link set e{tag} up
        ip -n {names.outside} link set e{tag} up
        ip -n {names.pod} link set lo up
        ip -n {names.outside} link set lo up
    """
    try:
        for command in commands.strip().splitlines():
            subprocess.run(command.split(), check=True, timeout=10)
        yield names
    finally:
        for name in (names.pod, names.outside):
            subprocess.run(
                ["ip", "netns", "delete", name], check=False, timeout=10, stderr=subprocess.DEVNULL
            )


@pytest.fixture
def servers(pair: Pair) -> Iterator[None]:
    inside = _listen(pair.pod, 8080, 9000, 15001, 15006, 15008, 15020)
    outside = _listen(pair.outside, 80, 5432)
    yield
    for server in (inside, outside):
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


@pytest.mark.usefixtures("servers")
def test_connections_reach_the_sidecar_except_the_spared_ones(pair: Pair) -> None:
    exclusions = {"SMI_MESH_EXCLUDE_INBOUND": "9000", "SMI_MESH_EXCLUDE_OUTBOUND": "5432"}
    pair.intercept(**exclusions)
    once = pair.run(pair.pod, "iptables-save", "-t", "nat")
    pair.intercept(**exclusions)
    again = pair.run(pair.pod, "iptables-save", "-t", "nat")
    assert [line for line in once.splitlines() if line.startswith("-A")] == [
        line for line in again.splitlines() if line.startswith("-A")
    ]
    assert again.count(f"-j {INBOUND_CHAIN}") == again.count(f"-j {OUTBOUND_CHAIN}") == 1

    assert pair.connect(pair.outside, POD_IP, 8080) == f"15006 for {POD_IP}:8080"
    assert pair.connect(pair.outside, POD_IP, 7777) == f"15006 for {POD_IP}:7777"
    assert pair.connect(pair.outside, POD_IP, 15001) == f"15006 for {POD_IP}:15001", (
        "not a way out for others"
    )
    assert pair.connect(pair.outside, POD_IP, 15008) == f"15008 for {POD_IP}:15008"
    assert pair.connect(pair.outside, POD_IP, 15020) == f"15020 for {POD_IP}:15020"
    assert pair.connect(pair.outside, POD_IP, 9000) == f"9000 for {POD_IP}:9000"

    assert pair.connect(pair.pod, OUTSIDE_IP, 80) == f"15001 for {OUTSIDE_IP}:80"
    assert pair.connect(pair.pod, OUTSIDE_IP, 5432) == f"5432 for {OUTSIDE_IP}:5432"
    assert pair.connect(pair.pod, OUTSIDE_IP, 80, as_proxy=True) == f"80 for {OUTSIDE_IP}:80"
    assert pair.connect(pair.pod, "127.0.0.1", 8080) == "8080 for 127.0.0.1:8080"
    assert pair.connect(pair.pod, POD_IP, 8080, as_proxy=True) == f"8080 for {POD_IP}:8080"


def test_other_rules_stay_and_changed_exclusions_replace_the_old(pair: Pair) -> None:
    foreign = ["-t", "nat", "-A", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "RETURN"]
    pair.run(pair.pod, "iptables", *foreign)
    pair.intercept(SMI_MESH_EXCLUDE_OUTBOUND="5432")
    pair.intercept(SMI_MESH_EXCLUDE_OUTBOUND="3306")
    saved = pair.run(pair.pod, "iptables-save", "-t", "nat")
    assert "--dport 53 -j RETURN" in saved
    assert "--dport 3306 -j RETURN" in saved
    assert "5432" not in saved


def test_without_the_capability_the_message_says_which() -> None:
    done = subprocess.run(
        [
            *("unshare", "-n", "setpriv", "--reuid=1337", "--regid=1337", "--clear-groups"),
            *(sys.executable, "-m", "dataplane.intercept"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "NET_ADMIN" in done.stderr


def test_ipv6_is_no_way_around(pair: Pair) -> None:
    inside, outside = "fd00:198:18::1", "fd00:198:18::2"
    device = f"e{pair.pod.split('-')[1]}"
    pair.run(pair.pod, "ip", "-6", "addr", "add", f"{inside}/64", "dev", device, "nodad")
    pair.run(pair.outside, "ip", "-6", "addr", "add", f"{outside}/64", "dev", device, "nodad")
    servers = [_listen(pair.pod, 8080, 9000), _listen(pair.outside, 7000)]
    try:
        assert pair.connect(pair.outside, inside, 8080).startswith("8080 for")
        pair.intercept(SMI_MESH_EXCLUDE_INBOUND="9000")
        pair.intercept(SMI_MESH_EXCLUDE_INBOUND="9000")
        assert pair.connect(pair.outside, inside, 8080) == "ConnectionRefusedError"
        assert pair.connect(pair.outside, inside, 9000).startswith("9000 for")
        assert pair.connect(pair.pod, outside, 7000) == "ConnectionRefusedError"
        assert pair.connect(pair.pod, outside, 7000, as_proxy=True).startswith("7000 for")
        assert pair.connect(pair.pod, "::1", 8080).startswith("8080 for")
    finally:
        for server in servers:
            server.kill()
            server.communicate()
