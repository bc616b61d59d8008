"""The real kubectl and the Python client inside pods: exec, cp, attach, port-forward, logs, proxy.

Every kubectl test runs over a WebSocket and over SPDY: kubectl since 1.31 can do both, an older one ignores
the variables and speaks SPDY twice.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from localmesh.node.process import CONTAINER_MARK, find_marked
from tests.e2e.harness import NAMESPACE, Cluster, wait_for

SPACE = "inside"
PODS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {SPACE}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: {SPACE}, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: python
    command: [python, -m, http.server, "8080"]
    workingDir: /srv
    ports: [{{name: http, containerPort: 8080}}]
    readinessProbe: {{tcpSocket: {{port: http}}}}
    volumeMounts: [{{name: files, mountPath: /srv}}]
  volumes: [{{name: files, emptyDir: {{}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {SPACE}}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: several, namespace: {SPACE}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: first, image: sh, command: [sh, -c, "for i in 1 2 3; do echo line $i; done; exec sleep 1000"]}}
  - {{name: second, image: sh, command: [cat], stdin: true}}
"""
TRANSPORTS = {"websocket": "true", "spdy": "false"}


@dataclass(frozen=True)
class Kubectl:
    """The real kubectl in a namespace, over one transport."""

    cluster: Cluster
    transport: str
    namespace: str = SPACE

    @property
    def env(self) -> dict[str, str]:
        wanted = TRANSPORTS[self.transport]
        return {
            **os.environ,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "HOME": str(self.cluster.state),
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": wanted,
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": wanted,
        }

    def argv(self, *arguments: str) -> list[str]:
        kubectl = shutil.which("kubectl")
        assert kubectl, "kubectl is missing: `make system` installs it"
        return [kubectl, "-n", self.namespace, *arguments]

    def __call__(self, *arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(*arguments), input=text, capture_output=True, timeout=60, check=False, env=self.env
        )

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.argv(*arguments), env=self.env, **more)

    @contextmanager
    def forwarding(self, what: str, port: int) -> Iterator[tuple[str, list[str]]]:
        """The URL on this machine, and what kubectl says meanwhile."""
        process = self.start(
            "port-forward", what, f":{port}", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said: list[str] = []
        assert process.stdout is not None
        first = process.stdout.readline().decode()
        found = re.search(r"Forwarding from 127\.0\.0\.1:(\d+)", first)
        assert found, first
        reading = threading.Thread(target=lambda: said.extend(line.decode() for line in process.stdout or ()))
        reading.start()
        try:
            yield f"http://127.0.0.1:{found[1]}", said
        finally:
            process.kill()
            process.wait()
            reading.join()
            process.stdout.close()


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("apply", "-f", "-", text=PODS)
    cluster.kubectl("wait", "-n", SPACE, "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", SPACE, "--wait=false")


@pytest.fixture(params=sorted(TRANSPORTS))
def kubectl(pods: Cluster, request: pytest.FixtureRequest) -> Kubectl:
    return Kubectl(pods, request.param)


def fetch(url: str) -> bytes:
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


def test_exec_keeps_streams_apart_and_passes_the_exit_code_on(kubectl: Kubectl) -> None:
    done = kubectl("exec", "-i", "web", "--", "sh", "-c", "cat; echo err >&2; exit 3", text=b"in")
    assert (done.stdout, done.returncode) == (b"in", 3)
    assert done.stderr.splitlines() == [b"err", b"command terminated with exit code 3"]
    assert kubectl("exec", "web", "--", "no-such-command").returncode == 127
    assert kubectl("exec", "web", "--", "true").returncode == 0


def test_what_cannot_be_entered_is_explained(kubectl: Kubectl) -> None:
    assert b"not found" in kubectl("exec", "nobody", "--", "true").stderr
    wrong = kubectl("exec", "several", "-c", "third", "--", "true")
    assert wrong.returncode == 1
    assert b"container third is not valid for pod several" in wrong.stderr
    assert kubectl("exec", "several", "-c", "second", "--", "echo", "here").stdout == b"here\n"


def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    name, content = f"{kubectl.transport}.bin", os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(content)
    copied = kubectl("cp", str(tmp_path / "there"), f"web:/srv/{name}")
    assert copied.returncode == 0, copied.stderr
    back = kubectl("cp", f"web:/srv/{name}", str(tmp_path / "back"))
    assert back.returncode == 0, back.stderr
    assert (tmp_path / "back").read_bytes() == content


def test_a_terminal_has_the_users_size_also_after_a_change(kubectl: Kubectl) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    process = kubectl.start(
        "exec", "-it", "web", "--", "sh", stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    seen = b""

    def until(text: bytes, typed: bytes = b"") -> None:
        nonlocal seen
        deadline, typing = time.monotonic() + 20, 0.0
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if typed and time.monotonic() > typing:
                os.write(master, typed)
                typing = time.monotonic() + 0.3
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 4096)

    try:
        until(b"33 111", b"stty size\n")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
        process.send_signal(28)  # SIGWINCH, which a terminal of its own would send
        until(b"44 99", b"stty size\n")
        os.write(master, b"exit 7\n")
        assert process.wait(20) == 7
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_killed_kubectl_takes_its_command_with_it(kubectl: Kubectl) -> None:
    mark = f"sleep 4{int(kubectl.transport == 'spdy')}42"
    process = kubectl.start("exec", "-i", "web", "--", *mark.split(), stdin=subprocess.PIPE)
    try:
        wait_for("the command", lambda: _runs(mark))
    finally:
        process.kill()
        process.communicate()
    wait_for("its end", lambda: not _runs(mark), 20)


def _runs(command: str) -> bool:
    wanted = b"\0".join(word.encode() for word in command.split()) + b"\0"
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == wanted:
                return True
        except OSError:
            continue
    return False


def test_attach_and_run_reach_the_process_itself(kubectl: Kubectl) -> None:
    name = f"once-{kubectl.transport}"
    arguments = ["--rm", "-i", "--restart=Never", "--image=sh", "--", "sh", "-c", "cat; exit 4"]
    ran = kubectl("run", name, *arguments, text=b"piped in\n")
    assert ran.stdout.startswith(b"piped in\n")
    assert ran.returncode == 4
    with kubectl.start(
        "attach", "-i", "several", "-c", "second", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        attached.stdin.write(b"to cat\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == b"to cat\n"
        attached.kill()


@pytest.mark.parametrize("what", ["pod/web", "svc/web"])
def test_connections_are_forwarded_beside_each_other(kubectl: Kubectl, what: str) -> None:
    payload = os.urandom(1_000_000)
    kubectl("exec", "-i", "web", "--", "sh", "-c", "cat > /srv/payload", text=payload)
    port = 80 if what.startswith("svc") else 8080
    with kubectl.forwarding(what, port) as (url, _said), ThreadPoolExecutor(6) as workers:
        found = list(workers.map(lambda _number: fetch(f"{url}/payload") == payload, range(6)))
    assert found == [True] * 6


def test_a_port_nobody_listens_on_is_explained(kubectl: Kubectl) -> None:
    with kubectl.forwarding("pod/web", 9) as (url, said):
        with pytest.raises((OSError, HTTPException)):  # however a connection breaks
            fetch(url)
        wait_for("the reason", lambda: "error forwarding port 9 to pod web" in "".join(said))
        assert "onnection refused" in "".join(said)


def test_a_meshed_pod_can_be_entered_and_forwarded_to(pods: Cluster) -> None:
    """As on a real cluster port-forward comes out on the pod's localhost, behind the sidecar."""
    pod = pods.pods("api-v1")[0]["metadata"]["name"]
    meshed = Kubectl(pods, "websocket", NAMESPACE)
    done = meshed("exec", pod, "-c", "app", "--", "hostname")
    assert done.stdout.decode().strip() == pod
    with meshed.forwarding(f"pod/{pod}", 8080) as (url, _said):
        assert fetch(f"{url}/")


def test_logs_in_parts_and_as_they_come(pods: Cluster) -> None:
    logs = ["logs", "-n", SPACE, "several", "-c", "first"]
    assert pods.kubectl(*logs) == "line 1\nline 2\nline 3\n"
    assert pods.kubectl(*logs, "--tail=1") == "line 3\n"
    assert pods.kubectl(*logs, "--limit-bytes=9") == "line 1\nli"
    stamped = pods.kubectl(*logs, "--timestamps").splitlines()
    second = stamped[1].split(" ")[0]
    assert pods.kubectl(*logs, f"--since-time={second}").splitlines()[-2:] == ["line 2", "line 3"]
    assert pods.kubectl(*logs, "--since=1h").count("\n") == 3
    assert "previous terminated container" in pods.kubectl(*logs, "--previous", check=False)
    follow = Kubectl(pods, "spdy").start("logs", "-f", "several", "-c", "second", stdout=subprocess.PIPE)
    try:
        with Kubectl(pods, "spdy").start(
            "attach", "-i", "several", "-c", "second", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as typing:
            assert typing.stdin is not None
            typing.stdin.write(b"for the log\n")
            typing.stdin.flush()
            assert follow.stdout is not None
            while (line := follow.stdout.readline()) != b"for the log\n":
                assert line, "kubectl logs -f ended"
            typing.kill()
    finally:
        follow.kill()
        follow.communicate()


def test_http_through_the_api(pods: Cluster) -> None:
    base = f"/api/v1/namespaces/{SPACE}"
    for path in (
        f"{base}/pods/web:8080/proxy/",
        f"{base}/services/web:80/proxy/",
        f"{base}/services/web/proxy/",
    ):
        assert "Directory listing" in pods.kubectl("get", "--raw", path)
    refused = pods.kubectl("get", "--raw", f"{base}/pods/web:9/proxy/", check=False)
    assert "ServiceUnavailable" in refused or "unable to handle the request" in refused
    proxy = Kubectl(pods, "spdy").start("proxy", "--port=0", stdout=subprocess.PIPE)
    try:
        assert proxy.stdout is not None
        found = re.search(rb"127\.0\.0\.1:\d+", proxy.stdout.readline())
        assert found
        assert b"Directory listing" in fetch(f"http://{found[0].decode()}{base}/services/web:80/proxy/")
    finally:
        proxy.kill()
        proxy.communicate()


PYTHON_CLIENT = """
import sys, time
from kubernetes import client, config, stream

config.load_kube_config(sys.argv[1])
core, space = client.CoreV1Api(), sys.argv[2]
execute, streams = core.connect_get_namespaced_pod_exec, {"stdout": True, "stderr": True, "tty": False}
opened = stream.stream(execute, "web", space, command=["sh"], stdin=True, _preload_content=False, **streams)
opened.write_stdin("echo hello\\n")
assert opened.readline_stdout(timeout=10) == "hello"
opened.write_stdin("exit 5\\n")
opened.run_forever(timeout=10)
assert opened.returncode == 5, opened.returncode
text = stream.stream(execute, "web", space, command=["echo", "whole"], stdin=False, **streams)
assert text == "whole\\n", text
forward = stream.portforward(
    core.connect_get_namespaced_pod_portforward, "web", space, ports="8080,9"
)
socket = forward.socket(8080)
socket.setblocking(True)
socket.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
answer = b""
while data := socket.recv(65536):
    answer += data
assert answer.startswith(b"HTTP/1.0 200 OK"), answer
assert forward.error(8080) is None, forward.error(8080)
deadline = time.monotonic() + 10
while forward.error(9) is None and time.monotonic() < deadline:
    time.sleep(0.05)
assert "error forwarding port 9" in forward.error(9)
print("done")
"""


def test_the_python_client(pods: Cluster) -> None:
    """In a process of its own, because it leaves sockets to the garbage collector."""
    argv = [sys.executable, "-c", PYTHON_CLIENT, str(pods.kubeconfig), SPACE]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr


def test_nothing_is_left_in_the_pods(pods: Cluster) -> None:
    """Runs last: every command that the tests started has ended, and so have its children."""
    uid = pods.get("pod", "web", "-n", SPACE)["metadata"]["uid"]
    wait_for("one process, the server", lambda: len(find_marked({CONTAINER_MARK: f"{uid}/c"})) == 1, 20)
