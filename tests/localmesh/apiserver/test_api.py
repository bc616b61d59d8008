"""The in-process API: the contract that controllers and node rely on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from localmesh.apiserver.api import Api, ApiError
from localmesh.apiserver.assemble import assemble
from localmesh.apiserver.frontproxy import FrontProxy
from localmesh.apiserver.store import Store


@pytest.fixture
async def api() -> Api:
    core = assemble(Store())
    await core.bootstrap()
    return core.api


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_create_get_update_delete(api: Api) -> None:
    made = await api.create("configmaps", "default", config_map("a", k="v"))
    assert made["metadata"]["uid"]
    made["data"] = {"k": "w"}
    updated = await api.update("configmaps", "default", "a", made)
    assert int(updated["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    with pytest.raises(ApiError) as stale:
        await api.update("configmaps", "default", "a", made)
    assert stale.value.code == 409
    assert stale.value.reason == "Conflict"
    patched = await api.patch("configmaps", "default", "a", {"data": {"k": None, "x": "y"}})
    assert patched["data"] == {"x": "y"}
    same = await api.patch("configmaps", "default", "a", {"data": {"x": "y"}})
    assert same["metadata"]["resourceVersion"] == patched["metadata"]["resourceVersion"]
    await api.delete("configmaps", "default", "a")
    with pytest.raises(ApiError) as gone:
        await api.get("configmaps", "default", "a")
    assert gone.value.code == 404


async def test_what_is_handed_out_is_not_shared(api: Api) -> None:
    made = await api.create("configmaps", "default", config_map("a", k="v"))
    made["data"]["k"] = "changed by the caller"
    (listed,) = await api.list("configmaps", "default")
    listed["data"]["k"] = "changed again"
    assert (await api.get("configmaps", "default", "a"))["data"] == {"k": "v"}


async def test_watch_tells_what_is_there_then_what_happens(api: Api) -> None:
    await api.create("configmaps", "default", config_map("a"))
    events = api.watch("configmaps", "default")
    kind, obj = await asyncio.wait_for(anext(events), 5)
    assert (kind, obj["metadata"]["name"]) == ("ADDED", "a")
    await api.create("configmaps", "kube-system", config_map("elsewhere"))
    await api.create("configmaps", "default", config_map("b"))
    await api.patch("configmaps", "default", "b", {"data": {"k": "v"}})
    await api.delete("configmaps", "default", "b")
    seen = [await asyncio.wait_for(anext(events), 5) for _ in range(3)]
    assert [(kind, obj["metadata"]["name"]) for kind, obj in seen] == [
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "b"),
    ]


async def test_watch_recovers_when_it_falls_behind() -> None:
    core = assemble(Store(window=4, slack=1))
    await core.bootstrap()
    api = core.api
    await api.create("configmaps", "default", config_map("stays"))
    await api.create("configmaps", "default", config_map("goes"))
    events = api.watch("configmaps", "default")
    for _ in range(2):
        await anext(events)
    await api.delete("configmaps", "default", "goes")
    for value in range(10):
        await api.patch("configmaps", "default", "stays", {"data": {"k": str(value)}})
    kind, obj = await asyncio.wait_for(anext(events), 5)
    assert (kind, obj["metadata"]["name"]) == ("DELETED", "goes")
    kind, obj = await asyncio.wait_for(anext(events), 5)
    assert (kind, obj["data"]) == ("MODIFIED", {"k": "9"})


async def test_status_is_apart_and_generation_counts_spec(api: Api) -> None:
    deployment = {
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "sh"}]},
            },
        },
        "status": {"replicas": 9},
    }
    made = await api.create("deployments.apps", "default", deployment)
    assert made["metadata"]["generation"] == 1
    assert "status" not in made or "replicas" not in made["status"]
    status = await api.patch("deployments.apps", "default", "web", {"status": {"replicas": 1}}, "status")
    assert status["status"]["replicas"] == 1
    assert status["metadata"]["generation"] == 1
    scaled = await api.patch(
        "deployments.apps", "default", "web", {"spec": {"replicas": 3}, "status": {"replicas": 7}}
    )
    assert scaled["metadata"]["generation"] == 2
    assert scaled["status"]["replicas"] == 1


async def test_finalizers_hold_a_deletion(api: Api) -> None:
    obj = config_map("held")
    obj["metadata"]["finalizers"] = ["example.com/held"]
    await api.create("configmaps", "default", obj)
    pending = await api.delete("configmaps", "default", "held")
    assert pending["metadata"]["deletionTimestamp"]
    await api.patch("configmaps", "default", "held", {"metadata": {"finalizers": None}})
    with pytest.raises(ApiError):
        await api.get("configmaps", "default", "held")


async def test_namespace_lifecycle(api: Api) -> None:
    await api.create("namespaces", None, {"metadata": {"name": "shop"}})
    doomed = await api.delete("namespaces", None, "shop")
    assert doomed["status"]["phase"] == "Terminating"
    with pytest.raises(ApiError) as refused:
        await api.create("configmaps", "shop", config_map("late"))
    assert refused.value.code == 403
    doomed["spec"]["finalizers"] = []
    await api.update("namespaces", None, "shop", doomed, subresource="finalize")
    with pytest.raises(ApiError) as gone:
        await api.create("configmaps", "shop", config_map("late"))
    assert gone.value.code == 404


async def test_pods_end_gracefully(api: Api) -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "local", "containers": [{"name": "c", "image": "sh"}]},
    }
    await api.create("pods", "default", pod)
    ending = await api.delete("pods", "default", "p", grace_seconds=5)
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 5
    await api.delete("pods", "default", "p", grace_seconds=0)
    with pytest.raises(ApiError):
        await api.get("pods", "default", "p")


async def test_everything_survives_reopening(tmp_path: Path) -> None:
    path, front_proxy = tmp_path / "state.db", FrontProxy.load_or_create(tmp_path)
    core = assemble(Store(path), front_proxy=front_proxy)
    await core.bootstrap()
    await core.api.create("configmaps", "default", config_map("a", k="v"))
    revision = core.api.revision
    await core.close()
    again = assemble(Store(path), front_proxy=front_proxy)
    await again.bootstrap()
    assert (await again.api.get("configmaps", "default", "a"))["data"] == {"k": "v"}
    assert again.api.revision == revision
    await again.close()
