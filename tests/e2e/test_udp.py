"""UDP through the mesh: real namespaces, real datagrams, UDPRoutes enforced by identity (S13, S20, S25)."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from localmesh.node.netns import in_namespace, node_netns
from localmesh.state import cluster_id
from smi.names import CONTROLLER_NAME, MESH_PORT, SYSTEM_NAMESPACE
from tests.e2e.harness import NAMESPACE, Cluster, deployment, wait_for

PORT = 5300
POD_PORT = 5301
IDLE_SECONDS = 3
SERVERS = ("clock-v1", "clock-v2")
CONTROL, MESH = (9000).to_bytes(2, "big"), MESH_PORT.to_bytes(2, "big")


def _clock(name: str, account: str = "clock") -> str:
    server = deployment(
        name,
        account=account,
        labels={"part": "clock"},
        annotations={"smi-mesh.io/udp-idle-seconds": str(IDLE_SECONDS)},
        env={"UDP_PORT": str(POD_PORT), "BIND": ""},
        container={"ports": [{"containerPort": POD_PORT, "protocol": "UDP"}]},
    )
    return f"""{server}
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: ask, port: {PORT}, targetPort: {POD_PORT}, protocol: UDP}}]
---"""


CLOCKS = (
    f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: clock, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: Service
metadata: {{name: clock, namespace: {NAMESPACE}}}
spec:
  selector: {{part: clock}}
  ports: [{{name: ask, port: {PORT}, targetPort: {POD_PORT}, protocol: UDP}}]
---"""
    + _clock("clock-v1")
    + _clock("clock-v2")
)

ALLOW = f"""
apiVersion: specs.smi-spec.io/v1alpha4
kind: UDPRoute
metadata: {{name: ask}}
spec: {{matches: {{ports: [{POD_PORT}]}}}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: ask-clock}}
spec:
  destination: {{kind: ServiceAccount, name: clock, namespace: {NAMESPACE}}}
  sources: [{{kind: ServiceAccount, name: web, namespace: {NAMESPACE}}}]
  rules: [{{kind: UDPRoute, name: ask}}]
"""

SPLIT = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: clocks}
spec:
  service: clock
  backends:
  - {service: clock-v1, weight: 30}
  - {service: clock-v2, weight: 70}
"""


ASKER = deployment("asker", account="web", annotations={"smi-mesh.io/workers": "2"})


@pytest.fixture(scope="module")
def clocks(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with two UDP servers behind one Service."""
    cluster.kubectl("apply", "-f", "-", text=CLOCKS)
    cluster.wait_ready("clock-v1", 1)
    cluster.wait_ready("clock-v2", 1)
    yield cluster
    cluster.kubectl("delete", "-f", "-", text=CLOCKS)


@pytest.fixture
def mesh(clocks: Cluster, policies: Cluster) -> Cluster:
    assert clocks is policies
    return clocks


def flows(cluster: Cluster, app: str, host: str = "clock", **order: Any) -> list[dict[str, Any]]:
    """What each flow from inside the pod of `app` came to."""
    answer = cluster._order(app, "/udp", {"host": host, "port": PORT, **order})
    results: list[dict[str, Any]] = answer["results"]
    return results


def served(results: list[dict[str, Any]]) -> Counter[str]:
    return Counter(result["received"][0].split()[0] for result in results if result["received"])


def metric(cluster: Cluster, app: str, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels, at the sidecar of `app`'s pod."""
    ip = cluster.pods(app)[0]["status"]["podIP"]
    with build_opener(ProxyHandler({})).open(f"http://{ip}:15020/metrics", timeout=10) as answer:
        text = answer.read().decode()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in wanted))


def allow(cluster: Cluster) -> None:
    cluster.apply(ALLOW)
    cluster.programmed("traffictarget", "ask-clock")
    wait_for("the permission", lambda: served(flows(cluster, "web", count=4, timeout=1.0)).total() == 4)


def reached(cluster: Cluster, app: str) -> int:
    ip = cluster.pods(app)[0]["status"]["podIP"]
    with build_opener(ProxyHandler({})).open(Request(f"http://{ip}:9000/seen"), timeout=10) as answer:
        return int(json.load(answer)["datagrams"])


def test_denied_by_default_is_silence_and_is_counted(mesh: Cluster) -> None:
    before = [reached(mesh, app) for app in SERVERS]
    (one,) = flows(mesh, "web", "clock-v1", timeout=1.0)
    assert (one["error"], one["received"]) == ("timeout", [])
    assert [reached(mesh, app) for app in SERVERS] == before
    assert metric(mesh, "clock-v1", "smi_mesh_denials_total", reason="no-traffic-target") >= 1
    assert metric(mesh, "clock-v1", "smi_mesh_udp_dropped_total", reason="no-traffic-target") >= 1


def test_a_udproute_allows_by_identity_and_a_stranger_stays_out(mesh: Cluster) -> None:
    allow(mesh)
    assert served(flows(mesh, "web", count=20, concurrency=5)).total() == 20
    denied = metric(mesh, "clock-v1", "smi_mesh_denials_total", reason="source-not-allowed")
    refused = flows(mesh, "stranger", "clock-v1", count=3, timeout=0.5)
    assert [result["error"] for result in refused] == ["timeout"] * 3
    assert metric(mesh, "clock-v1", "smi_mesh_denials_total", reason="source-not-allowed") > denied
    mesh.delete_policies()
    wait_for(
        "the end of the permission",
        lambda: served(flows(mesh, "web", count=2, timeout=0.5)).total() == 0,
    )


def test_a_tcproute_opens_no_udp(mesh: Cluster) -> None:
    mesh.apply(ALLOW.replace("UDPRoute", "TCPRoute"))
    mesh.programmed("traffictarget", "ask-clock")
    assert served(flows(mesh, "web", count=2, timeout=0.5)) == {}


def test_a_live_flow_ends_with_its_permission(mesh: Cluster) -> None:
    allow(mesh)
    outcome: list[dict[str, Any]] = []
    order: dict[str, Any] = {"send": ["x"] * 200, "interval": 0.1, "timeout": 1.0}
    thread = threading.Thread(target=lambda: outcome.extend(flows(mesh, "web", **order)))
    thread.start()
    seen = sum(reached(mesh, app) for app in SERVERS)
    wait_for("the flow", lambda: sum(reached(mesh, app) for app in SERVERS) > seen)
    mesh.delete_policies()
    thread.join(timeout=30)
    assert outcome[0]["error"] == "timeout"
    assert 0 < len(outcome[0]["received"]) < 200


def test_a_split_is_exact_per_flow(mesh: Cluster) -> None:
    allow(mesh)
    mesh.apply(SPLIT)
    mesh.programmed("trafficsplit", "clocks")
    results = flows(mesh, "web", count=100, concurrency=10, send=["a", "b"])
    assert all(len({text.split()[0] for text in result["received"]}) == 1 for result in results)
    got = served(results)
    assert got.total() == 100
    assert abs(got["clock-v1"] - 30) <= 1, got  # S14


def test_idle_flows_are_forgotten(mesh: Cluster) -> None:
    allow(mesh)
    assert served(flows(mesh, "web", count=5)).total() == 5

    def idle() -> bool:
        held = [metric(mesh, app, "smi_mesh_udp_flows", direction="inbound") for app in SERVERS]
        return held == [0.0, 0.0]

    wait_for("idle flows to go", idle, IDLE_SECONDS + 5)
    expired = [metric(mesh, app, "smi_mesh_udp_expired_total", direction="inbound") for app in SERVERS]
    assert sum(expired) >= 5


def test_names_are_still_resolved(mesh: Cluster) -> None:
    allow(mesh)
    host = f"clock.{NAMESPACE}.svc.cluster.local"
    assert served(flows(mesh, "web", host, count=10)).total() == 10
    assert metric(mesh, "web", "smi_mesh_udp_dropped_total", reason="loop") == 0


def test_plain_datagrams_from_outside_the_mesh_are_dropped(mesh: Cluster) -> None:
    allow(mesh)
    pod = mesh.pods("clock-v1")[0]["status"]["podIP"]
    service = mesh.get("service", "clock-v1", "-n", NAMESPACE)["spec"]["clusterIP"]
    before = reached(mesh, "clock-v1")
    denied = metric(mesh, "clock-v1", "smi_mesh_denials_total", reason="no-identity")
    for address in ((pod, POD_PORT), (service, PORT)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
            outside.settimeout(0.5)
            outside.connect(address)
            outside.send(b"let me in")
            with pytest.raises(TimeoutError):
                outside.recv(100)
    assert reached(mesh, "clock-v1") == before
    assert metric(mesh, "clock-v1", "smi_mesh_denials_total", reason="no-identity") >= denied + 2
    mesh.kubectl("annotate", "namespace", NAMESPACE, "smi-mesh.io/mtls=permissive")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
            outside.settimeout(0.3)
            outside.connect((service, PORT))
            wait_for("an answer in permissive mode", lambda: _ask(outside) == b"clock-v1 hello")
    finally:
        mesh.kubectl("annotate", "namespace", NAMESPACE, "smi-mesh.io/mtls-")


def _ask(sock: socket.socket) -> bytes:
    sock.send(b"hello")
    try:
        return sock.recv(100)
    except TimeoutError:
        return b""


def test_the_payload_is_never_on_the_wire(mesh: Cluster) -> None:
    allow(mesh)
    secret = "the-combination-is-1-2-3-4-5"
    with captured(mesh) as packets:
        assert served(flows(mesh, "web", count=20, send=[secret])).total() == 20
    assert len(packets) > 20
    assert not [packet for packet in packets if secret.encode() in packet]
    assert [packet for packet in packets if MESH in (packet[34:36], packet[36:38])], "the capture saw no mesh"
    with captured(mesh) as packets:  # and the capture would have seen it
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
            outside.sendto(secret.encode(), (mesh.pods("clock-v1")[0]["status"]["podIP"], POD_PORT))
        wait_for("the plain datagram", lambda: any(secret.encode() in packet for packet in packets))


@contextmanager
def captured(cluster: Cluster) -> Iterator[list[bytes]]:
    """Every packet that crosses the node's network while the body runs: each pod's veth ends there.

    But for the orders to the test apps, which hold what is to be sent.
    """
    sniffer = in_namespace(
        node_netns(cluster_id(cluster.state)),
        lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)),
    )
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    sniffer.settimeout(0.1)
    packets: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while True:
            try:
                packet = sniffer.recv(65535)
                if CONTROL not in (packet[34:36], packet[36:38]):
                    packets.append(packet)
            except TimeoutError:
                if done.is_set():
                    return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield packets
    finally:
        done.set()
        thread.join()
        sniffer.close()


def test_two_workers_share_the_flows_of_a_pod(mesh: Cluster) -> None:
    """Each has transparent sockets of its own, and carriers of its own to each of the two servers."""
    mesh.kubectl("apply", "-f", "-", text=ASKER)
    try:
        mesh.wait_ready("asker", 1)
        allow(mesh)
        results = flows(mesh, "asker", count=60, concurrency=10, send=["a", "b", "c"])
        assert [len(result["received"]) for result in results] == [3] * 60
        assert all(len({text.split()[0] for text in result["received"]}) == 1 for result in results)
        assert served(results).keys() == set(SERVERS)
        assert metric(mesh, "asker", "smi_mesh_workers") == 2
        assert metric(mesh, "asker", "smi_mesh_udp_flows_total", direction="outbound") == 60
        assert metric(mesh, "asker", "smi_mesh_tls_handshakes_total", side="client") == 4
    finally:
        mesh.kubectl("delete", "-f", "-", text=ASKER)


WITHOUT = _clock("walker", account="web") + _clock("clock-off")
"""A caller and a server that come into being while the mesh leaves UDP alone."""


@pytest.fixture
def without(clocks: Cluster) -> Iterator[Cluster]:
    """The mesh with `SMI_MESH_UDP=off`, and two pods that are young enough to know it."""
    controller = ("-n", SYSTEM_NAMESPACE, f"deployment/{CONTROLLER_NAME}")
    clocks.kubectl("set", "env", *controller, "SMI_MESH_UDP=off")
    try:
        clocks.kubectl("rollout", "status", *controller, "--timeout=60s")
        clocks.kubectl("apply", "-f", "-", text=WITHOUT)
        clocks.wait_ready("walker", 1)
        clocks.wait_ready("clock-off", 1)
        yield clocks
    finally:
        clocks.kubectl("delete", "-f", "-", "--wait=false", text=WITHOUT)
        clocks.kubectl("set", "env", *controller, "SMI_MESH_UDP=on")
        clocks.kubectl("rollout", "status", *controller, "--timeout=60s")


def test_switched_off_udp_passes_the_mesh_by_and_takes_no_privilege(without: Cluster) -> None:
    """No UDPRoute, no sidecar in the way; everything else is enforced as before."""
    without.delete_policies()
    for app in ("walker", "clock-off"):
        spec = without.pods(app)[0]["spec"]
        containers = [*spec["containers"], *spec.get("initContainers", [])]
        context = next(one["securityContext"] for one in containers if one["name"] == "smi-mesh-proxy")
        assert (context["runAsUser"], context["capabilities"]) == (1337, {"drop": ["ALL"]})
    with captured(without) as packets:
        answers = flows(without, "walker", "clock-off", count=10, send=["in plain sight"])
        assert served(answers) == {"clock-off": 10}
        wait_for("the datagrams", lambda: any(b"in plain sight" in packet for packet in packets))
    for app in ("walker", "clock-off"):
        assert metric(without, app, "smi_mesh_udp_flows_total") == 0
    refused = without.call("walker", url="http://clock-off:8080/", count=2)
    assert refused["statuses"] != {"200": 2}
