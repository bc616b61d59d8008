"""Makes the pictures of docs/metrics.md and docs/kubectl-traffic.md from a real run.

`python -m tests.e2e.pictures docs/pictures` takes twelve minutes: it starts an embedded cluster with a real
Prometheus, lets a small shop work through a rollout that goes wrong and is taken back, and draws what is then
measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from controller.monitoring import dashboards
from tests.e2e import dashboard_picture
from tests.e2e.harness import NAMESPACE, Cluster, deployment, service, start_cluster
from tests.e2e.policies import allow, split, tcp_route

APPS = ("web", "stranger", "cart", "orders", "api-v1", "api-v2")
ALLOWED = (
    ("web", "cart"), ("web", "api-v1"), ("web", "api-v2"), ("cart", "api-v1"), ("cart", "api-v2"),
    ("cart", "orders"), ("api-v1", "orders"), ("api-v2", "orders"), ("orders", "web"), ("web", "db"),
)  # fmt: skip
SHOP = (
    f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{smi-mesh.io/inject: enabled}}}}
---"""
    + "".join(deployment(app, labels={"part": "api"} if app.startswith("api") else None) for app in APPS)
    + deployment("db", env={"TCP_PORT": "5432"})
    + service("api", "part: api", 8080, "http")
    + "".join(service(app, f"app: {app}", 8080, "http") for app in APPS)
    + service("db", "app: db", 5432, "tcp-db")
)
STEP_SECONDS = 6


class Play:
    """Calls that go on until they are told to end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @contextmanager
    def calls(self, app: str, to: str, rate: float, query: str = "") -> Iterator[None]:
        """About `rate` requests a second from one app to a Service."""
        order = {"url": f"http://{to}:8080/?{query}", "interval": 1 / rate, "seconds": 2}
        with self._repeat(lambda: self._cluster.call(app, **order)):
            yield

    @contextmanager
    def dials(self, app: str, host: str, port: int, rate: float) -> Iterator[None]:
        """About `rate` connections a second."""
        pause = threading.Event()

        def dial() -> None:
            self._cluster.talk(app, host=host, port=port)
            pause.wait(1 / rate)

        with self._repeat(dial):
            yield

    @contextmanager
    def _repeat(self, work: Callable[[], object]) -> Iterator[None]:
        over, failed = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                while not over.is_set():
                    work()
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=60)
        if failed:
            raise failed[0]


WARM_UP = 5
"""Minutes before anything is drawn: the rates on the dashboards are those of five minutes."""


def play(cluster: Cluster, minute: float, pause: Callable[[float], object]) -> float:
    """Eleven minutes of a shop, a minute being so many seconds; when the sixth began, in Unix time."""
    work = Play(cluster)
    with ExitStack() as stack:
        for app, to, rate, query in (
            ("web", "cart", 12, "delay=0.004"),
            ("web", "api", 24, "delay=0.008"),
            ("web", "api", 6, "delay=0.06"),
            ("cart", "api", 15, "delay=0.012"),
            ("cart", "orders", 5, "delay=0.02"),
            ("api-v1", "orders", 6, "delay=0.015"),
            ("web", "orders", 0.4, ""),
            ("orders", "web", 2, "delay=0.002"),
            ("cart", "orders", 0.3, "status=503"),
        ):
            stack.enter_context(work.calls(app, to, rate, query))
        stack.enter_context(work.dials("web", f"db.{NAMESPACE}", 5432, 2))
        new = ("api-v2", "orders", 3, "delay=0.015")
        with work.calls(*new):
            cluster.apply(split({"api-v1": 95, "api-v2": 5}))
            pause(minute * WARM_UP)
            began = time.time()
            pause(minute)
            cluster.apply(split({"api-v1": 75, "api-v2": 25}))
            pause(minute)
            cluster.apply(split({"api-v1": 50, "api-v2": 50}))
            with work.calls("stranger", "orders", 4), work.calls("web", "api", 3, "status=500"):
                pause(minute)
        cluster.kubectl("scale", "deployment", "api-v2", "-n", NAMESPACE, "--replicas=0")
        pause(minute / 2)
        cluster.apply(split({"api-v1": 100, "api-v2": 0}))
        pause(minute * 3 / 2)
        cluster.kubectl("scale", "deployment", "api-v2", "-n", NAMESPACE, "--replicas=1")
        cluster.wait_ready("api-v2", 1)
        cluster.apply(split({"api-v1": 90, "api-v2": 10}))
        with work.calls(*new):
            pause(minute)
            topology(cluster, "-o", "svg", "-f", str(cluster.state / "topology.svg"))
            sys.stdout.write(topology(cluster))
    return began


def topology(cluster: Cluster, *form: str) -> str:
    """What `kubectl traffic topology` says while requests flow."""
    plugin = str(Path(sys.executable).parent / "kubectl-traffic")
    words = ("topology", "-n", NAMESPACE, "--kubeconfig", str(cluster.kubeconfig), *form)
    return subprocess.run([plugin, *words], check=True, timeout=60, stdout=subprocess.PIPE, text=True).stdout


def asking(url: str) -> dashboard_picture.Ask:
    def ask(query: str, began: float, ended: float) -> list[dict[str, Any]]:
        words = urlencode({"query": query, "start": began, "end": ended, "step": STEP_SECONDS})
        with build_opener(ProxyHandler({})).open(f"{url}/api/v1/query_range?{words}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    return ask


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description="The pictures of docs/, from a real run.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minute", type=float, default=60, help="seconds that each of 11 minutes lasts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smi-mesh-pictures-") as folder:
        cluster = start_cluster(Path(folder), "--prometheus", "--scrape-seconds", "1")
        try:
            cluster.kubectl("apply", "-f", "-", text=SHOP)
            rules = "[{kind: TCPRoute, name: everything}]"
            grants = "".join(allow(source, to, rules=rules) for source, to in ALLOWED)
            cluster.apply(tcp_route("everything") + grants)
            available = ("--for=condition=Available", "deployment", "--all", "--timeout=60s")
            cluster.kubectl("wait", "-n", NAMESPACE, *available)
            began = play(cluster, options.minute, threading.Event().wait)
            ended = time.time()
            ask = asking(cluster.local("status")["prometheus"])
            for name in dashboards():
                drawn = dashboard_picture.picture(name, ask, began, ended)
                (options.folder / f"{name.replace('smi-mesh', 'dashboard')}.svg").write_text(drawn)
            (options.folder / "topology.svg").write_text((cluster.state / "topology.svg").read_text())
        finally:
            subprocess.run([*cluster.command, "local", "down", "--state-dir", folder], check=True, timeout=60)


if __name__ == "__main__":
    main()
