"""The real kubectl against the real server: what a user types, and what comes back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localmesh.apiserver.server import ApiServer
from smi.api.crds import crds
from tests.localmesh.apiserver import test_aggregation as aggregation

KUBECTL = shutil.which("kubectl")
OLDEST = 27
"""Minor version that has every flag used here: `patch --subresource`, `create token` and the like."""


def _is_recent() -> bool:
    if KUBECTL is None:
        return False
    told = subprocess.run(
        [KUBECTL, "version", "--client", "-o", "json"], capture_output=True, check=True, timeout=30
    )
    return int(json.loads(told.stdout)["clientVersion"]["minor"].rstrip("+")) >= OLDEST


pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not _is_recent(), reason=f"needs kubectl 1.{OLDEST} or newer"),
    pytest.mark.timeout(120),
]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1", ports: [{containerPort: 80}],
         env: [{name: A, value: a}, {name: B, value: b}]}
      - {name: side, image: "side:1"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"""
SPLIT = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: api}
spec:
  service: api
  backends: [{service: api-v1, weight: 90}, {service: api-v2, weight: 10}]
"""


@dataclass
class Kubectl:
    """kubectl with the server's kubeconfig and a home of its own."""

    environment: dict[str, str]

    async def __call__(self, *words: str, stdin: str = "", fails: bool = False) -> str:
        assert KUBECTL is not None
        process = await asyncio.create_subprocess_exec(
            KUBECTL,
            *words,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
        text = output.decode()
        assert (process.returncode != 0) is fails, f"kubectl {' '.join(words)}: {process.returncode}\n{text}"
        return text

    async def json(self, *words: str) -> Any:
        return json.loads(await self(*words, "-o", "json"))


@pytest.fixture
async def kubectl(server: ApiServer, tmp_path: Path) -> Kubectl:
    home = tmp_path / "home"
    home.mkdir()
    path = os.environ["PATH"]
    return Kubectl({"KUBECONFIG": str(server.kubeconfig_path), "HOME": str(home), "PATH": path})


async def test_apply_removes_what_the_manifest_no_longer_has(kubectl: Kubectl) -> None:
    assert "deployment.apps/web created" in await kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    less = DEPLOYMENT.replace('      - {name: side, image: "side:1"}\n', "").replace(
        "{name: A, value: a}, ", ""
    )
    assert "deployment.apps/web configured" in await kubectl("apply", "-f", "-", stdin=less)
    web = await kubectl.json("get", "deployment", "web")
    (container,) = web["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "B", "value": "b"}]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert web["metadata"]["generation"] == 2
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=less)
    changes = await kubectl("diff", "-f", "-", stdin=less.replace("nginx:1", "nginx:2"), fails=True)
    assert "+      - image: nginx:2" in changes or "+        image: nginx:2" in changes


async def test_tables_and_descriptions(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    header, row = (await kubectl("get", "deploy", "web")).splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert row.split()[:4] == ["web", "0/2", "0", "0"]
    wide = await kubectl("get", "svc", "-o", "wide")
    assert "app=web" in wide
    assert "10.96.0.1 " in wide
    assert "NAMESPACE" in await kubectl("get", "all", "-A")
    described = await kubectl("describe", "deploy", "web")
    assert "Replicas:               2 desired" in described
    assert "TargetPort:" in await kubectl("describe", "svc", "web")
    assert "kubernetes.io/metadata.name=default" in await kubectl("describe", "ns", "default")


async def test_changing_things(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    await kubectl("scale", "deploy", "web", "--replicas=5")
    await kubectl("label", "deploy", "web", "tier=front")
    await kubectl("annotate", "deploy", "web", "note=x")
    await kubectl("set", "image", "deploy/web", "web=nginx:7")
    await kubectl("rollout", "restart", "deploy/web")
    patch = '{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}'
    await kubectl("patch", "deploy", "web", "-p", patch)
    status = '{"status":{"conditions":[{"type":"Available","status":"True","reason":"Test","message":""}]}}'
    await kubectl("patch", "deploy", "web", "--subresource=status", "--type=merge", "-p", status)
    await kubectl("wait", "--for=condition=Available", "deploy/web", "--timeout=5s")
    web = await kubectl.json("get", "deploy", "web")
    (container,) = web["spec"]["template"]["spec"]["containers"]
    assert (web["spec"]["replicas"], container["image"]) == (5, "nginx:7")
    assert web["metadata"]["labels"]["tier"] == "front"
    await kubectl("patch", "svc", "web", "--type=json", "-p", '[{"op":"remove","path":"/spec/selector"}]')
    assert "selector" not in (await kubectl.json("get", "svc", "web"))["spec"]
    assert "deleted" in await kubectl("delete", "deploy,svc", "web", "--timeout=5s")
    assert "NotFound" in await kubectl("get", "deploy", "web", fails=True)


async def test_strict_validation_names_the_field(kubectl: Kubectl) -> None:
    wrong = DEPLOYMENT.replace("replicas: 2", "replicaz: 2")
    output = await kubectl("apply", "-f", "-", stdin=wrong, fails=True)
    assert 'strict decoding error: unknown field "spec.replicaz"' in output
    other = DEPLOYMENT.replace("labels: {app: web}}\n    spec", "labels: {app: other}}\n    spec")
    output = await kubectl("apply", "-f", "-", stdin=other, fails=True)
    assert "`selector` does not match template `labels`" in output


async def test_watching(kubectl: Kubectl) -> None:
    assert KUBECTL is not None
    process = await asyncio.create_subprocess_exec(
        KUBECTL, "get", "cm", "-w", env=kubectl.environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen}\ndata: {a: b}"
    try:
        await kubectl("apply", "-f", "-", stdin=manifest)
        async with asyncio.timeout(20):
            lines: list[str] = []
            while not any(line.split()[:2] == ["seen", "1"] for line in lines):
                lines.append((await process.stdout.readline()).decode())
    finally:
        process.kill()
        await process.wait()


async def test_explain(kubectl: Kubectl) -> None:
    text = await kubectl("explain", "deployment.spec.template.spec.containers.ports")
    assert "containerPort\t<integer> -required-" in text
    assert "Number of port to expose" in text
    assert "<[]Container> -required-" in await kubectl("explain", "pods.spec")


async def test_smi_kinds(kubectl: Kubectl) -> None:
    manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": [offline(one) for one in crds()]})
    await kubectl("apply", "-f", "-", stdin=manifests)
    await kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=10s")
    names = await kubectl("api-resources", "-o", "name")
    for wanted in ("trafficsplits.split.smi-spec.io", "traffictargets.access.smi-spec.io"):
        assert wanted in names
    assert "created" in await kubectl("apply", "-f", "-", stdin=SPLIT)
    assert "configured" in await kubectl("apply", "-f", "-", stdin=SPLIT.replace("90", "50"))
    split = await kubectl.json("get", "trafficsplit", "api")
    assert [backend["weight"] for backend in split["spec"]["backends"]] == [50, 10]
    assert "api" in await kubectl("get", "trafficsplits")
    assert "Kind:         TrafficSplit" in await kubectl("describe", "trafficsplit", "api")
    assert "backends" in await kubectl("explain", "trafficsplit.spec")
    bad = SPLIT.replace("weight: 10", "weight: -1")
    output = await kubectl("apply", "-f", "-", stdin=bad, fails=True)
    assert "spec.backends[1].weight" in output
    await kubectl("delete", "-f", "-", "--timeout=10s", stdin=SPLIT)
    await kubectl("delete", "crd", "trafficsplits.split.smi-spec.io", "--timeout=10s")
    assert "NotFound" in await kubectl("get", "trafficsplits", fails=True)


def offline(definition: dict[str, Any]) -> dict[str, Any]:
    """Without the conversion webhook, which no controller serves here."""
    spec = {key: value for key, value in definition["spec"].items() if key != "conversion"}
    return {**definition, "spec": spec}


async def test_commands_that_send_protobuf(kubectl: Kubectl) -> None:
    await kubectl("create", "namespace", "shop")
    await kubectl("create", "configmap", "cm", "-n", "shop", "--from-literal=a=b")
    await kubectl("create", "secret", "generic", "s", "-n", "shop", "--from-literal=p=q")
    await kubectl("create", "serviceaccount", "sa", "-n", "shop")
    await kubectl("create", "deployment", "d", "-n", "shop", "--image=sh", "--replicas=0", "--port=80")
    await kubectl("create", "role", "r", "-n", "shop", "--verb=get,list", "--resource=pods,deployments.apps")
    await kubectl("create", "rolebinding", "r", "-n", "shop", "--role=r", "--serviceaccount=shop:sa")
    await kubectl("autoscale", "deployment", "d", "-n", "shop", "--min=1", "--max=3", "--cpu-percent=50")
    d = await kubectl.json("get", "deploy", "d", "-n", "shop")
    assert d["spec"]["replicas"] == 0
    assert d["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] == 80
    assert (await kubectl.json("get", "secret", "s", "-n", "shop"))["data"] == {"p": "cQ=="}
    hpa = await kubectl.json("get", "hpa", "d", "-n", "shop")
    assert hpa["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    token = (await kubectl("create", "token", "sa", "-n", "shop")).strip()
    assert token.count(".") == 2
    as_sa = ("--as=system:serviceaccount:shop:sa", "-n", "shop")
    assert "yes" in await kubectl("auth", "can-i", "list", "pods", *as_sa)
    assert "no" in await kubectl("auth", "can-i", "delete", "pods", *as_sa, fails=True)
    assert "pods" in await kubectl("auth", "can-i", "--list", *as_sa)
    assert "kubernetes-admin" in await kubectl("auth", "whoami")


async def test_who_am_i(kubectl: Kubectl) -> None:
    assert "+smi-mesh-embedded" in await kubectl("version", "-o", "json")
    assert "deployments.apps" in await kubectl("api-resources", "-o", "name")
    assert "ok" in await kubectl("get", "--raw", "/readyz")


async def test_aggregated_apis(kubectl: Kubectl, server: ApiServer, tmp_path: Path) -> None:
    async with aggregation.extension(server, tmp_path) as there:
        await aggregation.publish(server, there.port)
        manifest = json.dumps(aggregation.api_service(there.bundle))
        assert "apiservice.apiregistration.k8s.io/" in await kubectl("apply", "-f", "-", stdin=manifest)
        await kubectl("wait", "--for=condition=Available", f"apiservice/{aggregation.NAME}", "--timeout=20s")
        rows = {
            line.split()[0]: line.split()[1:3] for line in (await kubectl("get", "apiservices")).splitlines()
        }
        assert rows[aggregation.NAME] == ["default/numbers", "True"]
        assert rows["v1.apps"] == ["Local", "True"]
        listed = await kubectl("api-resources", "--api-group", aggregation.GROUP)
        assert listed.splitlines()[1].split() == [
            "pods", "np", f"{aggregation.GROUP}/{aggregation.VERSION}", "true", "Number",
        ]  # fmt: skip
        path = f"{aggregation.BASE}/namespaces/default/pods"
        assert json.loads(await kubectl("get", "--raw", path))["kind"] == "NumberList"
        assert f"{aggregation.GROUP}/{aggregation.VERSION}" in await kubectl("api-versions")
    away = await kubectl("get", "--raw", path, fails=True)
    assert "ServiceUnavailable" in away
    await aggregation.available(server, "False", "FailedDiscoveryCheck")
    assert "False (FailedDiscoveryCheck)" in await kubectl("get", "apiservice", aggregation.NAME)
    assert "deployments" in await kubectl("api-resources", "--api-group", "apps")
