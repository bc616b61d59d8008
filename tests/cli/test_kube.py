"""The command's Kubernetes client against the embedded API server, over real TLS."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from cli.kube import Change, Credentials, Kube, KubeconfigError, KubeError, condition, is_current
from localmesh.apiserver.server import ApiServer, ApiSettings, start


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    running = await start(ApiSettings(tmp_path))
    yield running
    await running.stop()


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[Kube]:
    async with Kube.connect(server.kubeconfig_path) as client:
        yield client


def config_map(**data: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default"},
        "data": data,
    }


PATH = "/api/v1/namespaces/default/configmaps/settings"


async def test_apply_says_what_it_did(kube: Kube) -> None:
    assert (await kube.apply(config_map(a="1")))[0] is Change.CREATED
    assert (await kube.apply(config_map(a="1")))[0] is Change.UNCHANGED
    change, merged = await kube.apply(config_map(b="2"))
    assert change is Change.CONFIGURED
    assert merged["data"] == {"a": "1", "b": "2"}
    assert [obj["metadata"]["name"] for obj in await kube.objects("v1", "ConfigMap", "default")] == [
        "settings"
    ]


async def test_what_is_not_there_is_none(kube: Kube) -> None:
    assert await kube.find(PATH) is None
    with pytest.raises(KubeError) as caught:
        await kube.request("GET", PATH)
    assert caught.value.status == 404
    assert caught.value.reason == "NotFound"


async def test_an_unknown_kind_is_named(kube: Kube) -> None:
    with pytest.raises(KubeError, match=r"does not serve TrafficSplit in split\.smi-spec\.io/v1alpha4"):
        await kube.resource("split.smi-spec.io/v1alpha4", "TrafficSplit")


async def test_waiting_sees_creation_change_and_deletion(kube: Kube) -> None:
    async with asyncio.TaskGroup() as group:
        two = group.create_task(kube.wait(PATH, lambda obj: obj["data"].get("a") == "2", 10, "a is 2"))
        await kube.apply(config_map(a="1"))
        await kube.apply(config_map(a="2"))
        assert (await two)["data"] == {"a": "2"}
        gone = group.create_task(kube.wait_gone(PATH, 10))
        await kube.request("DELETE", PATH)
    assert gone.done()


async def test_waiting_ends(kube: Kube) -> None:
    with pytest.raises(TimeoutError, match=r"never: not within 0\.05 s"):
        await kube.wait(PATH, lambda _: True, 0.05, "never")
    await kube.apply(config_map())
    with pytest.raises(TimeoutError, match="still there"):
        await kube.wait_gone(PATH, 0.05)


async def test_a_server_that_is_away_is_named(server: ApiServer) -> None:
    async with Kube.connect(server.kubeconfig_path) as kube:
        await server.stop()
        with pytest.raises(KubeError, match=r"GET https://127\.0\.0\.1") as caught:
            await kube.find(PATH)
    assert caught.value.status == 0


def kubeconfig(**user: str) -> dict[str, object]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://a:6443/"}}],
        "users": [{"name": "u", "user": user}],
    }


def test_credentials_from_data_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("KEY")
    path = tmp_path / "config"
    certificate = base64.b64encode(b"CERT").decode()
    document = kubeconfig(**{"client-certificate-data": certificate, "client-key": "key.pem"}, token="T")
    path.write_text(yaml.safe_dump(document))
    credentials = Credentials.read(path)
    assert credentials == Credentials("https://a:6443", None, "CERT", "KEY", "T")


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({}, "current-context"),
        ({**kubeconfig(), "current-context": "other"}, "other"),
        (kubeconfig(**{"client-key": "missing.pem"}), r"client-key missing\.pem"),
        (kubeconfig(**{"client-key-data": "%"}), "client-key-data"),
        ("just text", "missing"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, document: object, named: str) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(KubeconfigError, match=named):
        Credentials.read(path)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="No such file"):
        Credentials.read(tmp_path / "none")


def test_conditions_speak_about_a_generation() -> None:
    obj = {
        "metadata": {"generation": 2},
        "status": {"conditions": [{"type": "Programmed", "status": "True", "observedGeneration": 1}]},
    }
    assert condition(obj, "Accepted") is None
    assert not is_current(obj, "Programmed")
    obj["status"]["conditions"][0]["observedGeneration"] = 2  # type: ignore[index]  # a JSON document
    assert is_current(obj, "Programmed")
    assert not is_current({"metadata": {"generation": 1}}, "Programmed")
