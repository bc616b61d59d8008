"""Deployments and ReplicaSets against the real API; the timeline is kubernetes-api.md, Appendix F."""

from __future__ import annotations

import asyncio
from typing import Any

from localmesh.apiserver.api import Api
from tests.localmesh.cluster_kit import Kubelet, deployment, wait_until


def status(api: Api, name: str = "web") -> dict[str, Any]:
    return (api.peek("deployments.apps", "default", name) or {}).get("status") or {}


def condition(api: Api, kind: str, name: str = "web") -> tuple[str, str]:
    found = [item for item in status(api, name).get("conditions") or () if item["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else ("", "")


async def sets(api: Api) -> list[dict[str, Any]]:
    found = await api.list("replicasets.apps", "default")
    return sorted(
        found, key=lambda rs: int(rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
    )


async def pods(api: Api) -> list[dict[str, Any]]:
    return await api.list("pods", "default")


def pod_count(api: Api) -> int:
    return sum(1 for key in api._rest.store.items("pods") if "deletionTimestamp" not in key.value["metadata"])


async def settle(api: Api, kubelet: Kubelet, name: str = "web") -> None:
    """Play the node until the rollout is complete."""
    for _ in range(60):
        await kubelet.remove_terminating()
        await kubelet.ready_all()
        dep = api.peek("deployments.apps", "default", name) or {}
        state = dep.get("status") or {}
        want = dep["spec"]["replicas"]
        counters = [state.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
        current = state.get("observedGeneration") == dep["metadata"]["generation"]
        if current and counters == [want] * 3 and len(await pods(api)) == want:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"rollout does not settle: {status(api, name)}")


async def test_new_deployment_becomes_available(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment())
    await wait_until(lambda: pod_count(api) == 2, "two pods")
    await wait_until(lambda: status(api).get("unavailableReplicas") == 2, "counters")
    assert condition(api, "Available") == ("False", "MinimumReplicasUnavailable")
    await settle(api, kubelet)
    await wait_until(lambda: condition(api, "Progressing")[1] == "NewReplicaSetAvailable", "progressed")
    assert condition(api, "Available") == ("True", "MinimumReplicasAvailable")
    (rs,) = await sets(api)
    digest = rs["metadata"]["labels"]["pod-template-hash"]
    assert rs["metadata"]["name"] == f"web-{digest}"
    assert rs["spec"]["selector"]["matchLabels"]["pod-template-hash"] == digest
    assert all(p["metadata"]["labels"]["pod-template-hash"] == digest for p in await pods(api))
    assert status(api)["observedGeneration"] == 1


async def test_image_change_rolls_within_surge_and_unavailable(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment())
    await wait_until(lambda: pod_count(api) == 2, "two pods")
    await settle(api, kubelet)
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}}
    await api.patch("deployments.apps", "default", "web", changed)
    # surge = ceil(25 % of 2) = 1, unavailable = floor = 0: one more, none less
    await wait_until(lambda: pod_count(api) == 3, "one pod more")
    await wait_until(lambda: status(api).get("updatedReplicas") == 1, "one updated")
    old, new = await sets(api)
    assert (old["spec"]["replicas"], new["spec"]["replicas"]) == (2, 1)
    assert condition(api, "Progressing")[1] in ("NewReplicaSetCreated", "ReplicaSetUpdated")
    await kubelet.ready_all()
    await wait_until(lambda: status(api).get("updatedReplicas") == 2, "the second new pod")
    await settle(api, kubelet)
    old, new = await sets(api)
    assert (old["spec"]["replicas"], new["spec"]["replicas"]) == (0, 2)
    dep = await api.get("deployments.apps", "default", "web")
    assert dep["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    await wait_until(lambda: condition(api, "Progressing")[1] == "NewReplicaSetAvailable", "progressed")


async def test_rollback_reuses_the_old_set_as_newest_revision(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment(replicas=1))
    await wait_until(lambda: pod_count(api) == 1, "a pod")
    await settle(api, kubelet)
    for image in ("x:2", "x:1"):
        changed = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
        await api.patch("deployments.apps", "default", "web", changed)
        await settle(api, kubelet)
    images = [rs["spec"]["template"]["spec"]["containers"][0]["image"] for rs in await sets(api)]
    assert images == ["x:2", "x:1"]
    dep = await api.get("deployments.apps", "default", "web")
    assert dep["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


async def test_the_newest_set_follows_what_is_no_template(api: Api, kubelet: Kubelet) -> None:
    """`kubectl rollout history` shows the change cause that the ReplicaSets carry."""
    await api.create("deployments.apps", "default", deployment(replicas=1))
    await wait_until(lambda: pod_count(api) == 1, "a pod")
    await settle(api, kubelet)
    cause = "kubernetes.io/change-cause"
    for image, why in (("x:1", "first"), ("x:2", "second"), ("x:1", "first again")):
        changed = {
            "metadata": {"annotations": {cause: why}},
            "spec": {
                "minReadySeconds": len(why),
                "template": {"spec": {"containers": [{"name": "c", "image": image}]}},
            },
        }
        await api.patch("deployments.apps", "default", "web", changed)
        await wait_until(
            lambda why=why: (
                why
                in [
                    one["metadata"]["annotations"].get(cause)
                    for one in api.peek_all("replicasets.apps", "default")
                ]
            ),
            why,
        )
        await kubelet.ready_all()
    old, new = await sets(api)
    assert [one["metadata"]["annotations"][cause] for one in (old, new)] == ["second", "first again"]
    assert new["spec"]["minReadySeconds"] == len("first again")
    assert new["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"


async def test_scaling_changes_the_only_set(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment(replicas=1))
    await wait_until(lambda: pod_count(api) == 1, "a pod")
    await settle(api, kubelet)
    await api.patch("deployments.apps", "default", "web", {"spec": {"replicas": 4}})
    await wait_until(lambda: pod_count(api) == 4, "four pods")
    await settle(api, kubelet)
    await api.patch("deployments.apps", "default", "web", {"spec": {"replicas": 0}})
    await wait_until(lambda: pod_count(api) == 0, "no pod")
    assert len(await sets(api)) == 1


async def test_paused_deployment_does_not_roll_but_scales(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment(replicas=1))
    await wait_until(lambda: pod_count(api) == 1, "a pod")
    await settle(api, kubelet)
    changed = {
        "spec": {
            "paused": True,
            "replicas": 2,
            "template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}},
        }
    }
    await api.patch("deployments.apps", "default", "web", changed)
    await wait_until(lambda: pod_count(api) == 2, "two pods")
    await wait_until(lambda: condition(api, "Progressing")[1] == "DeploymentPaused", "paused")
    assert len(await sets(api)) == 1
    await api.patch("deployments.apps", "default", "web", {"spec": {"paused": None}})
    await settle(api, kubelet)
    assert len(await sets(api)) == 2


async def test_recreate_waits_until_the_old_pods_are_gone(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment(strategy={"type": "Recreate"}))
    await wait_until(lambda: pod_count(api) == 2, "two pods")
    await settle(api, kubelet)
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}}
    await api.patch("deployments.apps", "default", "web", changed)
    await wait_until(lambda: pod_count(api) == 0, "old pods terminating")
    assert len(await sets(api)) == 1, "nothing new while old pods still run"
    await kubelet.remove_terminating()
    await wait_until(lambda: pod_count(api) == 2, "new pods")


async def test_missed_deadline_is_reported(api: Api) -> None:
    await api.create("deployments.apps", "default", deployment(progressDeadlineSeconds=1))
    await wait_until(
        lambda: condition(api, "Progressing") == ("False", "ProgressDeadlineExceeded"), "deadline"
    )


async def test_old_sets_beyond_the_limit_are_forgotten(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment(replicas=1, revisionHistoryLimit=1))
    await wait_until(lambda: pod_count(api) == 1, "a pod")
    await settle(api, kubelet)
    for image in ("x:2", "x:3"):
        changed = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
        await api.patch("deployments.apps", "default", "web", changed)
        await settle(api, kubelet)
    await wait_until(lambda: len(api._rest.store.items("replicasets.apps")) == 2, "one old set left")


async def test_replicaset_replaces_a_deleted_pod_and_adopts_orphans(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment())
    await wait_until(lambda: pod_count(api) == 2, "two pods")
    first = (await pods(api))[0]["metadata"]["name"]
    await api.delete("pods", "default", first)
    await wait_until(lambda: pod_count(api) == 2 and api.peek("pods", "default", first) is None, "a new pod")
    victim = (await pods(api))[0]["metadata"]
    await api.patch("pods", "default", victim["name"], {"metadata": {"labels": {"app": "other"}}})
    await wait_until(lambda: pod_count(api) == 3, "released and replaced")
    released = await api.get("pods", "default", victim["name"])
    assert not released["metadata"].get("ownerReferences")
    await api.patch("pods", "default", victim["name"], {"metadata": {"labels": {"app": "web"}}})
    await wait_until(lambda: pod_count(api) == 2, "adopted again, one too many deleted")


async def test_unready_pods_are_deleted_first(api: Api, kubelet: Kubelet) -> None:
    await api.create("deployments.apps", "default", deployment(replicas=3))
    await wait_until(lambda: pod_count(api) == 3, "three pods")
    good = (await pods(api))[1]
    await kubelet.ready(good)
    await api.patch("deployments.apps", "default", "web", {"spec": {"replicas": 1}})
    await wait_until(lambda: pod_count(api) == 1, "one pod")
    (left,) = await pods(api)
    assert left["metadata"]["name"] == good["metadata"]["name"]


async def test_refused_pods_show_as_replica_failure(api: Api) -> None:
    webhook = {
        "name": "refuse.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        ],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    resource = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    await api.create(resource, None, {"metadata": {"name": "refuse"}, "webhooks": [webhook]})
    await api.create("replicasets.apps", "default", {**deployment(), "kind": "ReplicaSet"})

    def failed() -> bool:
        state = (api.peek("replicasets.apps", "default", "web") or {}).get("status") or {}
        return any(item["type"] == "ReplicaFailure" for item in state.get("conditions") or ())

    await wait_until(failed, "ReplicaFailure")
