"""Reading a cluster's objects, from the embedded API server over real TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.errors import Failed
from cli.explain import live
from cli.explain.decision import Interception
from cli.explain.live import observe
from cli.kube import Kube
from localmesh.apiserver.server import ApiServer, ApiSettings, start
from smi.api.crds import crds
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE, NamespacedName

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    running = await start(ApiSettings(tmp_path))
    yield running
    await running.stop()


def service(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    }


def controller(trust_domain: str) -> dict[str, object]:
    labels = {"app": CONTROLLER_NAME}
    env = [
        {"name": "SMI_MESH_TRUST_DOMAIN", "value": trust_domain},
        {"name": "SMI_MESH_UDP", "value": "off"},
    ]
    spec = {"containers": [{"name": "controller", "image": "none", "env": env}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": CONTROLLER_NAME, "namespace": SYSTEM_NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def established(crd: dict[str, object]) -> bool:
    status = crd.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


async def test_a_cluster_without_a_mesh_is_named(server: ApiServer) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await observe(server.kubeconfig_path, None)
    said, other = caught.value.split(Failed)
    assert other is None
    assert said is not None
    assert "is the mesh installed?" in str(said.exceptions[0])


async def test_everything_is_listed_page_by_page(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAGE", 1)
    async with Kube.connect(server.kubeconfig_path) as kube:
        await asyncio.gather(*(kube.apply(dict(crd)) for crd in crds()))
        for crd in crds():
            await kube.wait(f"{CRDS}/{crd['metadata']['name']}", established, 10, "established")
        await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}})
        await kube.apply(controller("shop.example"))
        for name in ("a", "b", "c"):
            await kube.apply(service(name))
    observed = await observe(server.kubeconfig_path, None)
    world = observed.world
    assert observed.interception == Interception(redirected=True, udp=False)
    assert {NamespacedName("default", name) for name in "abc"} <= world.services.keys()
    assert world.trust_domain == "shop.example"
    assert SYSTEM_NAMESPACE in world.namespaces
