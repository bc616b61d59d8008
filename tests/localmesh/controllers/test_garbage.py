"""Owners, namespaces: what disappears with what."""

from __future__ import annotations

from typing import Any

import pytest

from localmesh.apiserver.api import Api, ApiError
from tests.localmesh.cluster_kit import Kubelet, deployment, pod, wait_until


def count(api: Api, resource: str, namespace: str = "default") -> int:
    return sum(1 for item in api._rest.store.items(resource, namespace))


async def owned(api: Api, name: str, owner: dict[str, Any], **more: Any) -> dict[str, Any]:
    meta = owner["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": meta["name"], "uid": meta["uid"], **more}
    obj = {"metadata": {"name": name, "ownerReferences": [reference]}}
    return await api.create("configmaps", "default", obj)


async def test_background_deletion_takes_the_whole_tree(api: Api) -> None:
    await api.create("deployments.apps", "default", deployment())
    await wait_until(lambda: count(api, "pods") == 2, "two pods")
    await api.delete("deployments.apps", "default", "web")
    await wait_until(lambda: count(api, "replicasets.apps") == count(api, "pods") == 0, "all gone")


async def test_foreground_deletion_keeps_the_owner_until_its_dependents_are_gone(
    api: Api, kubelet: Kubelet
) -> None:
    await api.create("deployments.apps", "default", deployment(replicas=1))
    await wait_until(lambda: count(api, "pods") == 1, "a pod")
    await kubelet.ready_all()
    await api.delete("deployments.apps", "default", "web", propagation="Foreground")
    await wait_until(
        lambda: any("deletionTimestamp" in i.value["metadata"] for i in api._rest.store.items("pods")),
        "pod ends",
    )
    assert count(api, "deployments.apps") == 1
    await kubelet.remove_terminating()
    await wait_until(lambda: count(api, "deployments.apps") == 0, "owner gone")
    assert count(api, "pods") == count(api, "replicasets.apps") == 0


async def test_orphaning_keeps_the_dependents(api: Api) -> None:
    owner = await api.create("configmaps", "default", {"metadata": {"name": "owner"}})
    await owned(api, "child", owner)
    await wait_until(lambda: api.peek("configmaps", "default", "child"), "child")
    await api.delete("configmaps", "default", "owner", propagation="Orphan")
    await wait_until(lambda: api.peek("configmaps", "default", "owner") is None, "owner gone")
    assert not (await api.get("configmaps", "default", "child"))["metadata"].get("ownerReferences")


async def test_one_living_owner_is_enough(api: Api) -> None:
    one = await api.create("configmaps", "default", {"metadata": {"name": "one"}})
    two = await api.create("configmaps", "default", {"metadata": {"name": "two"}})
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": item["metadata"]["name"],
            "uid": item["metadata"]["uid"],
        }
        for item in (one, two)
    ]
    await api.create("configmaps", "default", {"metadata": {"name": "child", "ownerReferences": references}})
    await api.delete("configmaps", "default", "one")
    await wait_until(
        lambda: len(api.peek("configmaps", "default", "child")["metadata"]["ownerReferences"]) == 1,  # type: ignore[index]  # JSON
        "the dangling reference is dropped",
    )
    await api.delete("configmaps", "default", "two")
    await wait_until(lambda: api.peek("configmaps", "default", "child") is None, "child gone")


async def test_owner_with_another_uid_does_not_count(api: Api) -> None:
    owner = await api.create("configmaps", "default", {"metadata": {"name": "owner"}})
    owner["metadata"]["uid"] = "not-the-one"
    await owned(api, "child", owner)
    await wait_until(lambda: api.peek("configmaps", "default", "child") is None, "child of nobody is gone")


async def test_new_namespace_has_its_inhabitants(api: Api) -> None:
    await api.create("namespaces", None, {"metadata": {"name": "shop"}})
    await wait_until(lambda: api.peek("serviceaccounts", "shop", "default"), "ServiceAccount")
    bundle = await wait_until(lambda: api.peek("configmaps", "shop", "kube-root-ca.crt"), "CA")
    assert bundle["data"] == {"ca.crt": "CA"}
    await api.delete("serviceaccounts", "shop", "default")
    await wait_until(lambda: api.peek("serviceaccounts", "shop", "default"), "ServiceAccount again")


async def test_namespace_ends_when_it_is_empty(api: Api, kubelet: Kubelet) -> None:
    await api.create("namespaces", None, {"metadata": {"name": "shop"}})
    await wait_until(lambda: api.peek("serviceaccounts", "shop", "default"), "ServiceAccount")
    await api.create("deployments.apps", "shop", deployment(replicas=1))
    await wait_until(lambda: count(api, "pods", "shop") == 1, "a pod")
    await kubelet.ready_all("shop")
    await api.delete("namespaces", None, "shop")
    await wait_until(
        lambda: any(
            "deletionTimestamp" in i.value["metadata"] for i in api._rest.store.items("pods", "shop")
        ),
        "pod ends",
    )
    namespace = await api.get("namespaces", None, "shop")
    assert namespace["status"]["phase"] == "Terminating"
    with pytest.raises(ApiError) as refused:
        await api.create("pods", "shop", pod("late"))
    assert refused.value.code == 403
    await kubelet.remove_terminating("shop")
    await wait_until(lambda: api.peek("namespaces", None, "shop") is None, "namespace gone")
    assert count(api, "serviceaccounts", "shop") == count(api, "configmaps", "shop") == 0
