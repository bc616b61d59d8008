"""Whole clusters: real daemon, real namespaces and rules; crash recovery; nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from localmesh import cluster
from localmesh.daemon import Mode
from localmesh.node import netns
from localmesh.node.process import CLUSTER_MARK, find_marked
from tests.localmesh.kube_kit import Kube, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MODES: list[Mode] = ["netns", "loopback"] if not netns.missing_tools() else ["loopback"]
PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"


def firewall() -> str:
    if os.geteuid() != 0:
        return ""
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in saved.splitlines() if not line.startswith(("#", ":")))


def server_pod(name: str, text: str) -> dict[str, Any]:
    script = (
        "import http.server,os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        f"        body = b'{text}'\n"
        "        self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
        "        self.end_headers()\n"
        "        self.wfile.write(body)\n"
        "http.server.ThreadingHTTPServer((os.environ['POD_IP'], 8080), H).serve_forever()\n"
    )
    env = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    return {
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "c",
                    "image": "python",
                    "command": ["python", "-c", script],
                    "env": env,
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"port": "http"}},
                }
            ],
        },
    }


def shell_pod(name: str, script: str) -> dict[str, Any]:
    container = {"name": "c", "image": "sh", "command": ["sh", "-c", script]}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container]}}


WEB_SERVICE: dict[str, Any] = {
    "metadata": {"name": "web"},
    "spec": {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 8081, "targetPort": "http"}],
    },
}


def fetch(url: str) -> str:
    """GET without any proxy of the environment; "" when it cannot be had."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def spreads(url: str) -> bool:
    return {fetch(url) for _ in range(20)} == {"one", "two"}


def says(url: str, text: str) -> bool:
    return fetch(url) == text


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "cluster"
    before = firewall()
    yield place
    cluster.down(place)
    assert cluster.leftovers(place) == []
    assert not place.exists()
    assert firewall() == before


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


def finished(kube: Kube, name: str) -> str:
    """Wait for the pod's end and return its log."""
    eventually(
        lambda: kube.get(f"{PODS}/{name}").get("status", {}).get("phase") in ("Succeeded", "Failed"),
        f"{name} ends",
    )
    return kube.log("default", name)


def test_services_reach_pods_and_down_leaves_nothing(state_dir: Path, mode: Mode) -> None:
    phases: list[str] = []
    info = cluster.up(state_dir, mode, progress=phases.append)
    assert phases[-1] == "ready"
    assert info.mode == mode
    assert (info.kubeconfig.stat().st_mode & 0o777) == 0o600
    again = cluster.up(state_dir, mode)
    assert again.pid == info.pid
    kube = Kube(info.kubeconfig)
    service = kube.create(SERVICES, WEB_SERVICE)
    for name in ("one", "two"):
        kube.create(PODS, server_pod(name, name))
    eventually(lambda: all(kube.pod_ready("default", name) for name in ("one", "two")), "both ready")
    address = service["spec"]["clusterIP"]
    node_port = service["spec"]["ports"][0]["nodePort"]
    for url in (f"http://{address}:8081/", f"http://{info.node_address}:{node_port}/"):
        eventually(partial(spreads, url), f"{url} reaches both")
    pod_address = kube.get(f"{PODS}/one")["status"]["podIP"]
    assert fetch(f"http://{pod_address}:8080/") == "one"
    client = f"python3 -c \"import urllib.request as u; print(u.urlopen('http://{address}:8081/').read().decode())\""
    kube.create(PODS, shell_pod("client", client))
    assert finished(kube, "client").strip() in ("one", "two")
    kube.call("DELETE", f"{PODS}/two")
    eventually(lambda: {fetch(f"http://{address}:8081/") for _ in range(10)} == {"one"}, "only one is left")


def test_pods_resolve_cluster_names(state_dir: Path) -> None:
    if "netns" not in MODES:
        pytest.skip("mode netns needs root")
    info = cluster.up(state_dir, "netns")
    kube = Kube(info.kubeconfig)
    service = kube.create(SERVICES, WEB_SERVICE)
    headless = {
        "metadata": {"name": "peers"},
        "spec": {**WEB_SERVICE["spec"], "clusterIP": "None", "type": "ClusterIP"},
    }
    kube.create(SERVICES, headless)
    kube.create(PODS, server_pod("one", "one"))
    eventually(lambda: kube.pod_ready("default", "one"), "one is ready")
    address, pod_address = service["spec"]["clusterIP"], kube.get(f"{PODS}/one")["status"]["podIP"]
    names = "web web.default web.default.svc.cluster.local. peers kubernetes"
    script = (
        f"for name in {names}; do getent ahostsv4 $name | head -1; done; getent hosts nowhere || echo unknown"
    )
    kube.create(PODS, shell_pod("client", script))
    lines = [line.split()[0] for line in finished(kube, "client").splitlines()]
    kubernetes = kube.get(f"{SERVICES}/kubernetes")["spec"]["clusterIP"]
    assert lines == [address, address, address, pod_address, kubernetes, "unknown"]


def test_pods_reach_the_api_with_their_service_account(state_dir: Path) -> None:
    if "netns" not in MODES:
        pytest.skip("mode netns needs root")
    info = cluster.up(state_dir, "netns")
    kube = Kube(info.kubeconfig)
    script = (
        "import json,ssl,urllib.request,urllib.error\n"
        "base='/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "tls=ssl.create_default_context(cafile=base+'ca.crt')\n"
        "head={'Authorization':'Bearer '+open(base+'token').read()}\n"
        "url='https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews'\n"
        "body=json.dumps({'apiVersion':'authentication.k8s.io/v1','kind':'SelfSubjectReview'}).encode()\n"
        "head['Content-Type']='application/json'\n"
        "answer=urllib.request.urlopen(urllib.request.Request(url,body,head),context=tls)\n"
        "print(json.load(answer)['status']['userInfo']['username'])\n"
    )
    obj = shell_pod("client", "")
    obj["spec"]["containers"][0] |= {"image": "python", "command": ["python", "-c", script]}
    kube.create(PODS, obj)
    assert finished(kube, "client").strip() == "system:serviceaccount:default:default"


def test_pods_have_files_processes_and_writes_of_their_own(state_dir: Path) -> None:
    if "netns" not in MODES:
        pytest.skip("mode netns needs root")
    info = cluster.up(state_dir, "netns")
    kube = Kube(info.kubeconfig)
    script = "hostname; id -g; ls /run; echo x > /left-behind; echo bye > /dev/termination-log; "
    script += "cat /data/here/deep/key"
    obj = shell_pod("client", script)
    kube.create(
        "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "cm"}, "data": {"key": "value"}}
    )
    obj["spec"]["volumes"] = [{"name": "cm", "configMap": {"name": "cm"}}]
    obj["spec"]["containers"][0] |= {
        "securityContext": {"runAsGroup": 1337},
        "volumeMounts": [{"name": "cm", "mountPath": "/data/here/deep"}],
    }
    kube.create(PODS, obj)
    assert finished(kube, "client").split() == ["client", "1337", "secrets", "value"]
    state = kube.get(f"{PODS}/client")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["message"].strip() == "bye"
    assert not Path("/left-behind").exists()
    assert not Path("/data/here").exists()
    assert not Path("/dev/termination-log").exists()


def test_everything_killed_comes_back_with_its_objects(state_dir: Path, mode: Mode) -> None:
    info = cluster.up(state_dir, mode)
    kube = Kube(info.kubeconfig)
    service = kube.create(SERVICES, WEB_SERVICE)
    kube.create(PODS, server_pod("one", "one"))
    eventually(lambda: kube.pod_ready("default", "one"), "one is ready")
    url = f"http://{service['spec']['clusterIP']}:8081/"
    eventually(lambda: fetch(url) == "one", "reachable")
    for pid in [info.pid, *find_marked({CLUSTER_MARK: info.cluster})]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: cluster.status(state_dir) is None, "the daemon is gone")
    begun = time.monotonic()
    back = cluster.up(state_dir, mode)
    assert time.monotonic() - begun < 15
    assert back.pid != info.pid
    assert back.api == info.api, "the kubeconfig stays valid"
    eventually(lambda: fetch(url) == "one", "reachable again")
    status = kube.get(f"{PODS}/one")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1


def test_pods_die_with_the_daemon_and_down_works_without_it(state_dir: Path, mode: Mode) -> None:
    info = cluster.up(state_dir, mode)
    kube = Kube(info.kubeconfig)
    kube.create(PODS, server_pod("one", "one"))
    eventually(lambda: kube.pod_ready("default", "one"), "one is ready")
    assert find_marked({CLUSTER_MARK: info.cluster})
    os.kill(info.pid, signal.SIGKILL)
    eventually(lambda: not find_marked({CLUSTER_MARK: info.cluster}), "pods are gone")
    removed = cluster.down(state_dir)
    assert not removed.was_running
    assert cluster.leftovers(state_dir) == []


def test_two_clusters_live_beside_each_other(state_dir: Path, tmp_path: Path, mode: Mode) -> None:
    other_dir = tmp_path / "other"
    one = cluster.up(state_dir, mode)
    try:
        other = cluster.up(other_dir, mode)
        assert {one.pod_cidr, one.service_cidr}.isdisjoint({other.pod_cidr, other.service_cidr})
        kubes = {"one": Kube(one.kubeconfig), "other": Kube(other.kubeconfig)}
        for name, kube in kubes.items():
            kube.create(SERVICES, WEB_SERVICE)
            kube.create(PODS, server_pod("same", name))
        for name, kube in kubes.items():
            eventually(partial(kube.pod_ready, "default", "same"), "ready")
            address = kube.get(f"{SERVICES}/web")["spec"]["clusterIP"]
            eventually(partial(says, f"http://{address}:8081/", name), name)
    finally:
        cluster.down(other_dir)
    assert cluster.leftovers(other_dir) == []
    assert cluster.status(state_dir) is not None


def test_kept_state_is_found_again_and_another_mode_is_refused(state_dir: Path) -> None:
    info = cluster.up(state_dir, "loopback")
    Kube(info.kubeconfig).create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    Kube(info.kubeconfig).create(PODS, server_pod("one", "one"))
    eventually(partial(Kube(info.kubeconfig).pod_ready, "default", "one"), "one is ready")
    cluster.down(state_dir, keep=True)
    assert cluster.status(state_dir) is None
    if "netns" in MODES:
        with pytest.raises(cluster.ClusterError, match="run `down` first"):
            cluster.up(state_dir, "netns")
    info = cluster.up(state_dir, "loopback")
    assert Kube(info.kubeconfig).get("/api/v1/namespaces/shop")["metadata"]["name"] == "shop"
    eventually(partial(Kube(info.kubeconfig).pod_ready, "default", "one"), "one runs again")
    assert Kube(info.kubeconfig).get(f"{PODS}/one")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_bad_image_file_is_explained_at_once(state_dir: Path, tmp_path: Path) -> None:
    table = tmp_path / "images.yaml"
    table.write_text("nginx: {args: [a]}")
    with pytest.raises(cluster.ClusterError, match="`command` is required"):
        cluster.up(state_dir, "loopback", images=table)
