"""Real servers and their own clients through two sidecars: MariaDB, PostgreSQL, Redis, SMTP.

MariaDB and the mail server speak first. Each server is reached through three ports of a Service: one
named for what it speaks, one with an `appProtocol`, and one that says nothing.
"""

from __future__ import annotations

import json
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from localmesh.node.netns import in_namespace, pod_netns
from localmesh.state import cluster_id
from smi.names import DEFAULT_TRUST_DOMAIN
from tests.e2e.harness import NAMESPACE, Cluster, T
from tests.e2e.policies import allow, tcp_route
from tests.e2e.test_udp import metric

PORTS = {"mysql": 3306, "postgres": 5432, "redis": 6379, "smtp": 2525}
"""What the servers listen on."""
SPEAK_FIRST = ("mysql", "smtp")
HINTS = {"name": 0, "app-protocol": 10_000, "nothing": 20_000}
"""How a Service's port says what it speaks, and what is added to the server's port to make the Service's."""

_START = {
    "mysql": """
        mkdir /tmp/db; exec mariadbd --no-defaults --user=root --datadir=/tmp/db --socket=/tmp/socket
        --skip-grant-tables --skip-name-resolve --bind-address=0.0.0.0 --port=3306""",
    "postgres": """
        mkdir /tmp/db; chown postgres /tmp/db; cd /tmp/db; bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1);
        as="setpriv --reuid=postgres --regid=postgres --clear-groups";
        $as $bin/initdb -D /tmp/db -A trust --no-sync --locale=C -E UTF8 -U postgres;
        echo "host all all all trust" >> /tmp/db/pg_hba.conf;
        exec $as $bin/postgres -D /tmp/db -k /tmp -h 0.0.0.0 -p 5432""",
    "redis": "exec redis-server --bind 0.0.0.0 --port 6379 --protected-mode no --save '' --dir /tmp",
    "smtp": """
        printf '%s\\n' 'listen on 0.0.0.0 port 2525 hostname mail.shop' 'action "keep" maildir "/tmp/mail"'
        'match from any for domain mail.shop action "keep"' > /tmp/smtpd.conf;
        exec smtpd -d -f /tmp/smtpd.conf""",
}

_LISTENS = "exec 3<>/dev/tcp/127.0.0.1/{}"
"""A tcpSocket probe would be answered by the sidecar, whether the server listens yet or not."""


def _container(name: str) -> str:
    script, listens = " ".join(_START[name].split()), _LISTENS.format(PORTS[name])
    return f"""
      - name: {name}
        image: bash
        command: [bash, -c, {json.dumps(script)}]
        ports: [{{containerPort: {PORTS[name]}}}]
        readinessProbe: {{exec: {{command: [bash, -c, "{listens}"]}}, periodSeconds: 1}}"""


def _ports(name: str) -> str:
    port = PORTS[name]
    lines = (
        f"{{name: {name}-a, port: {port}}}",
        f"{{name: x-{name}, port: {port + 10_000}, targetPort: {port}, appProtocol: {name}}}",
        f"{{name: y-{name}, port: {port + 20_000}, targetPort: {port}}}",
    )
    return "".join(f"\n  - {line}" for line in lines)


SERVERS = f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: servers, namespace: {NAMESPACE}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: servers, namespace: {NAMESPACE}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: servers}}}}
  template:
    metadata: {{labels: {{app: servers}}}}
    spec:
      serviceAccountName: servers
      terminationGracePeriodSeconds: 2
      containers:{"".join(map(_container, PORTS))}
---
apiVersion: v1
kind: Service
metadata: {{name: servers, namespace: {NAMESPACE}}}
spec:
  selector: {{app: servers}}
  ports:{"".join(map(_ports, PORTS))}
"""


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> Iterator[str]:
    """The Service of the four servers, which web may reach, and nobody else."""
    cluster.delete_policies()
    cluster.kubectl("apply", "-f", "-", text=SERVERS)
    cluster.apply(
        tcp_route("servers", *PORTS.values())
        + allow(destination="servers", rules="[{kind: TCPRoute, name: servers}]")
    )
    cluster.wait_ready("servers", 1)
    cluster.programmed("traffictarget", "web-to-servers")
    yield cluster.get("service", "servers", "-n", NAMESPACE)["spec"]["clusterIP"]
    cluster.kubectl("delete", "-f", "-", "--wait=false", text=SERVERS)
    cluster.delete_policies()


def inside(cluster: Cluster, app: str, work: Callable[[], T]) -> T:
    """Do `work` in the network of `app`'s pod, where its sidecar intercepts what it connects to."""
    uid = cluster.pods(app)[0]["metadata"]["uid"]
    return in_namespace(pod_netns(cluster_id(cluster.state), uid), work)


def run(*command: str | int) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": "/nonexistent", "PGCONNECT_TIMEOUT": "10"},
    )
    return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stdout}{done.stderr}"


def mysql(host: str, port: int) -> str:
    command = ("mariadb", "--no-defaults", "-h", host, "-P", port, "-u", "root", "-NBe", "select 6*7")
    return run(*command, "--connect-timeout=10")


def postgres(host: str, port: int) -> str:
    return run("psql", "-XAt", "-h", host, "-p", port, "-U", "postgres", "-c", "select 6*7", "postgres")


def redis(host: str, port: int) -> str:
    return run("redis-cli", "-h", host, "-p", port, "EVAL", "return 6*7", 0)


def smtp(host: str, port: int) -> str:
    try:
        with smtplib.SMTP(host, port, "web.shop", timeout=20) as client:
            client.sendmail("web@shop", ["root@mail.shop"], "Subject: 6*7\r\n\r\n42\r\n")
            return "42\n"
    except OSError as error:  # smtplib's own errors are such
        return str(error)


CLIENTS = {"mysql": mysql, "postgres": postgres, "redis": redis, "smtp": smtp}


def opened(cluster: Cluster) -> tuple[float, float]:
    """Opaque connections that web's sidecar and the servers' have counted between web and them."""
    web = f"spiffe://{DEFAULT_TRUST_DOMAIN}/ns/{NAMESPACE}/sa/web"
    name = "smi_mesh_tcp_opened_total"
    here = metric(cluster, "web", name, direction="outbound", service=f"{NAMESPACE}/servers")
    return here, metric(cluster, "servers", name, direction="inbound", peer=web)


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("server", PORTS)
def test_a_query(cluster: Cluster, address: str, server: str, hint: str) -> None:
    """Twice: what the first connection taught the sidecar must not spoil the second."""
    before = opened(cluster)
    for _ in range(2):
        answer = inside(cluster, "web", lambda: CLIENTS[server](address, PORTS[server] + HINTS[hint]))
        assert answer == "42\n"
    after = opened(cluster)
    assert (after[0] - before[0], after[1] - before[1]) == (2, 2)


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("server", SPEAK_FIRST)
def test_the_greeting_comes_before_the_client_says_a_byte(
    cluster: Cluster, address: str, server: str, hint: str
) -> None:
    def listen() -> bytes:
        with socket.create_connection((address, PORTS[server] + HINTS[hint]), timeout=10) as client:
            return client.recv(4096)

    for _ in range(2):
        greeting = inside(cluster, "web", listen)
        assert (b"MariaDB" in greeting) if server == "mysql" else greeting.startswith(b"220 mail.shop ESMTP")


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("server", PORTS)
def test_a_stranger_is_refused(cluster: Cluster, address: str, server: str, hint: str) -> None:
    """Also one that waits for a greeting is told so, by a reset (S25)."""

    def ask() -> tuple[str, bytes | str]:
        answer = CLIENTS[server](address, PORTS[server] + HINTS[hint])
        try:
            with socket.create_connection((address, PORTS[server] + HINTS[hint]), timeout=10) as client:
                return answer, client.recv(4096)
        except ConnectionResetError:
            return answer, "reset"

    answer, silent = inside(cluster, "stranger", ask)
    assert "42" not in answer
    assert silent == "reset"
