"""DaemonSets, StatefulSets, Jobs and their kin against the real API, with the node played by the test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from localmesh.apiserver.api import Api
from localmesh.apiserver.call import Propagation
from tests.localmesh.cluster_kit import DEADLINE_S, Kubelet, container, deployment, wait_until

LABELS = {"app": "web"}


def template(image: str = "x:1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [container(image=image)], **spec}}


def workload(kind: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    wanted = {"selector": {"matchLabels": LABELS}, "template": template()} | spec
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": wanted}


def job(name: str = "work", **spec: Any) -> dict[str, Any]:
    inner = {"template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}} | spec
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": inner}


async def add_node(api: Api, name: str = "local", **labels: str) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}
    await api.create("nodes", None, node)


def status(api: Api, resource: str, name: str = "web") -> dict[str, Any]:
    return (api.peek(resource, "default", name) or {}).get("status") or {}


def names(api: Api) -> list[str]:
    return [pod["metadata"]["name"] for pod in api.peek_all("pods", "default")]


def images(api: Api) -> dict[str, str]:
    pods = api.peek_all("pods", "default")
    return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in pods}


async def play(kubelet: Kubelet, until: Any, what: str) -> None:
    """Be the node until `until()` is true."""
    limit = asyncio.get_running_loop().time() + 2 * DEADLINE_S
    while not until():
        assert asyncio.get_running_loop().time() < limit, f"never: {what}"
        await kubelet.remove_terminating()
        await kubelet.ready_all()
        await asyncio.sleep(0.005)


NEW_IMAGE = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}}


async def test_daemonset_runs_where_it_fits_and_rolls(api: Api, kubelet: Kubelet) -> None:
    await add_node(api)
    await api.create("daemonsets.apps", "default", workload("DaemonSet"))
    await play(kubelet, lambda: status(api, "daemonsets.apps").get("numberAvailable") == 1, "available")
    wanted = {
        "currentNumberScheduled": 1,
        "desiredNumberScheduled": 1,
        "numberMisscheduled": 0,
        "numberReady": 1,
        "observedGeneration": 1,
        "updatedNumberScheduled": 1,
        "numberAvailable": 1,
    }
    assert status(api, "daemonsets.apps") == wanted
    await api.patch("daemonsets.apps", "default", "web", NEW_IMAGE)
    await play(
        kubelet,
        lambda: (
            list(images(api).values()) == ["x:2"]
            and status(api, "daemonsets.apps") == wanted | {"observedGeneration": 2}
        ),
        "the new pod",
    )
    history = api.peek_all("controllerrevisions.apps", "default")
    assert sorted(one["revision"] for one in history) == [1, 2]
    # Flagger takes a DaemonSet's traffic away with a selector that no node has
    away = {"spec": {"template": {"spec": {"nodeSelector": {"flagger.app/scale-to-zero": "true"}}}}}
    await api.patch("daemonsets.apps", "default", "web", away)
    await play(kubelet, lambda: names(api) == [], "no pod")
    await wait_until(lambda: status(api, "daemonsets.apps").get("observedGeneration") == 3, "observed")
    assert status(api, "daemonsets.apps")["desiredNumberScheduled"] == 0


async def test_statefulset_is_ordered_in_both_directions(api: Api, kubelet: Kubelet) -> None:
    await api.create("statefulsets.apps", "default", workload("StatefulSet", replicas=3, serviceName="web"))
    await wait_until(lambda: names(api) == ["web-0"], "the first")
    await kubelet.ready_all()
    await wait_until(lambda: names(api) == ["web-0", "web-1"], "the second after the first is ready")
    await play(kubelet, lambda: status(api, "statefulsets.apps").get("readyReplicas") == 3, "three")
    pod = await api.get("pods", "default", "web-2")
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-2", "web")
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "2"
    await api.patch("statefulsets.apps", "default", "web", {"spec": {"replicas": 1}})
    await wait_until(
        lambda: "deletionTimestamp" in (api.peek("pods", "default", "web-2") or {})["metadata"], "the last"
    )
    assert "deletionTimestamp" not in (await api.get("pods", "default", "web-1"))["metadata"]
    await play(kubelet, lambda: names(api) == ["web-0"], "one left")
    await wait_until(lambda: status(api, "statefulsets.apps")["replicas"] == 1, "counted")


async def test_statefulset_update_stops_at_the_partition(api: Api, kubelet: Kubelet) -> None:
    parallel = {"podManagementPolicy": "Parallel", "serviceName": "web"}
    partition = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}
    await api.create(
        "statefulsets.apps", "default", workload("StatefulSet", replicas=2, **parallel, **partition)
    )
    await play(kubelet, lambda: status(api, "statefulsets.apps").get("readyReplicas") == 2, "two")
    first = status(api, "statefulsets.apps")["currentRevision"]
    await api.patch("statefulsets.apps", "default", "web", NEW_IMAGE)
    await play(kubelet, lambda: images(api) == {"web-0": "x:1", "web-1": "x:2"}, "web-1 alone is new")
    await play(kubelet, lambda: status(api, "statefulsets.apps").get("readyReplicas") == 2, "both ready")
    await api.delete("pods", "default", "web-0", grace_seconds=0)
    await play(kubelet, lambda: images(api) == {"web-0": "x:1", "web-1": "x:2"}, "web-0 comes back as it was")
    await api.patch(
        "statefulsets.apps",
        "default",
        "web",
        {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}},
    )
    await play(kubelet, lambda: images(api) == {"web-0": "x:2", "web-1": "x:2"}, "all are new")
    await play(
        kubelet,
        lambda: status(api, "statefulsets.apps")["currentRevision"] != first,
        "the update is complete",
    )
    state = status(api, "statefulsets.apps")
    assert state["currentRevision"] == state["updateRevision"]
    assert (state["currentReplicas"], state["updatedReplicas"], state["availableReplicas"]) == (2, 2, 2)


async def end_pod(api: Api, pod: dict[str, Any], phase: str) -> None:
    meta = pod["metadata"]
    ended = {"finishedAt": "2026-01-01T00:00:00Z", "exitCode": 0 if phase == "Succeeded" else 1}
    state = {"name": "c", "state": {"terminated": ended}}
    change = {"status": {"phase": phase, "containerStatuses": [state]}}
    await api.patch("pods", meta["namespace"], meta["name"], change, subresource="status")


async def end_all(api: Api, phase: str) -> None:
    for pod in await api.list("pods", "default"):
        if pod["status"]["phase"] in ("Pending", "Running"):
            await end_pod(api, pod, phase)


def conditions(api: Api, name: str = "work") -> dict[str, str]:
    found = status(api, "jobs.batch", name).get("conditions") or ()
    return {one["type"]: one["reason"] for one in found if one["status"] == "True"}


async def test_job_completes_and_counts_pods_that_are_gone(api: Api) -> None:
    await api.create("jobs.batch", "default", job(completions=3, parallelism=2))
    await wait_until(lambda: len(names(api)) == 2, "two at a time")
    await end_all(api, "Succeeded")
    await wait_until(lambda: status(api, "jobs.batch", "work").get("succeeded") == 2, "two counted")
    await wait_until(lambda: len(names(api)) == 3, "the third")
    for pod in await api.list("pods", "default"):
        if pod["status"]["phase"] == "Succeeded":
            await api.delete("pods", "default", pod["metadata"]["name"])
    await end_all(api, "Succeeded")
    await wait_until(lambda: "Complete" in conditions(api), "complete")
    assert conditions(api) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    state = status(api, "jobs.batch", "work")
    assert (state["succeeded"], state["uncountedTerminatedPods"]) == (3, {})
    assert "completionTime" in state
    assert "active" not in state
    assert all("finalizers" not in pod["metadata"] for pod in api.peek_all("pods"))


async def test_job_gives_up_at_its_limit_and_is_removed_after_its_time(api: Api) -> None:
    await api.create("jobs.batch", "default", job(backoffLimit=1, ttlSecondsAfterFinished=0))
    for number in (1, 2):
        await wait_until(lambda number=number: len(names(api)) == number, "another try")
        await end_all(api, "Failed")
    await wait_until(
        lambda: api.peek("jobs.batch", "default", "work") is None and names(api) == [], "job and pods removed"
    )


async def test_job_fails_for_good(api: Api) -> None:
    await api.create("jobs.batch", "default", job(backoffLimit=0))
    await wait_until(lambda: len(names(api)) == 1, "a try")
    await end_all(api, "Failed")
    await wait_until(lambda: "Failed" in conditions(api), "failed")
    assert conditions(api) == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    assert status(api, "jobs.batch", "work")["failed"] == 1
    assert "completionTime" not in status(api, "jobs.batch", "work")


async def test_suspended_job_has_no_pods_and_begins_anew(api: Api) -> None:
    await api.create("jobs.batch", "default", job(suspend=True))
    await wait_until(lambda: conditions(api).get("Suspended") == "JobSuspended", "suspended")
    assert names(api) == []
    await api.patch("jobs.batch", "default", "work", {"spec": {"suspend": False}})
    await wait_until(lambda: len(names(api)) == 1, "a pod")
    await api.patch("jobs.batch", "default", "work", {"spec": {"suspend": True}})
    await wait_until(lambda: names(api) == [], "none")
    state = status(api, "jobs.batch", "work")
    assert "failed" not in state, "a pod that was taken away is no failure"
    assert "startTime" not in state


async def test_orphaned_pods_lose_the_job_finalizer(api: Api) -> None:
    await api.create("jobs.batch", "default", job())
    await wait_until(lambda: len(names(api)) == 1, "a pod")
    await api.delete("jobs.batch", "default", "work", propagation="Orphan")
    await wait_until(lambda: "finalizers" not in api.peek_all("pods", "default")[0]["metadata"], "freed")
    assert "ownerReferences" not in api.peek_all("pods", "default")[0]["metadata"]


async def test_autoscaler_says_that_nothing_scales(api: Api) -> None:
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 3,
            "maxReplicas": 5,
        },
    }
    await api.create("horizontalpodautoscalers.autoscaling", "default", hpa)

    def reasons() -> dict[str, str]:
        found = status(api, "horizontalpodautoscalers.autoscaling").get("conditions") or ()
        return {one["type"]: f"{one['status']} {one['reason']}" for one in found}

    await wait_until(lambda: reasons() == {"AbleToScale": "False FailedGetScale"}, "no target")
    await api.create("deployments.apps", "default", deployment(replicas=1))
    scaling = {"AbleToScale": "True SucceededGetScale", "ScalingActive": "False LocalMeshControlPlane"}
    await wait_until(lambda: reasons() == scaling, "a target")
    await wait_until(
        lambda: status(api, "horizontalpodautoscalers.autoscaling").get("currentReplicas") == 1, "counted"
    )
    assert (api.peek("deployments.apps", "default", "web") or {})["spec"]["replicas"] == 1


async def test_budget_counts_what_may_go(api: Api, kubelet: Kubelet) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}},
    }
    await api.create("poddisruptionbudgets.policy", "default", budget)
    await api.create("deployments.apps", "default", deployment(replicas=2))
    await play(
        kubelet,
        lambda: status(api, "poddisruptionbudgets.policy").get("disruptionsAllowed") == 1,
        "one may be evicted",
    )
    state = status(api, "poddisruptionbudgets.policy")
    assert (state["currentHealthy"], state["desiredHealthy"], state["expectedPods"]) == (2, 1, 2)


@pytest.mark.parametrize(
    ("resource", "kind"), [("daemonsets.apps", "DaemonSet"), ("statefulsets.apps", "StatefulSet")]
)
async def test_revisions_keep_their_cause_and_only_so_many_are_kept(
    api: Api, kubelet: Kubelet, resource: str, kind: str
) -> None:
    await add_node(api)
    cause = "kubernetes.io/change-cause"
    limit = {"revisionHistoryLimit": 1} | ({"replicas": 1} if kind == "StatefulSet" else {})
    first = workload(kind, **limit)
    first["metadata"]["annotations"] = {cause: "x:1"}
    await api.create(resource, "default", first)

    def causes() -> dict[int, str]:
        found = api.peek_all("controllerrevisions.apps", "default")
        return {one["revision"]: one["metadata"]["annotations"][cause] for one in found}

    def rolled(image: str) -> bool:
        observed = status(api, resource).get("observedGeneration", 0)
        generation = (api.peek(resource, "default", "web") or {})["metadata"]["generation"]
        return list(images(api).values()) == [image] and bool(observed == generation)

    await play(kubelet, lambda: rolled("x:1"), "x:1")
    for image in ("x:2", "x:3"):
        change = {"metadata": {"annotations": {cause: image}}} | {
            "spec": {"template": {"spec": {"containers": [container(image=image)]}}}
        }
        await api.patch(resource, "default", "web", change)
        await play(kubelet, lambda image=image: rolled(image), image)
    await play(kubelet, lambda: causes() == {2: "x:2", 3: "x:3"}, "the first is forgotten")
    back = {"spec": {"template": {"spec": {"containers": [container(image="x:2")]}}}}
    await api.patch(resource, "default", "web", back)
    await play(kubelet, lambda: rolled("x:2"), "back")
    await play(kubelet, lambda: causes() == {3: "x:3", 4: "x:2"}, "renumbered, with the cause it had")


KINDS = {
    "daemonsets.apps": workload("DaemonSet"),
    "statefulsets.apps": workload("StatefulSet", replicas=1, serviceName="web"),
    "jobs.batch": job("web"),
}


def remains(api: Api) -> list[str]:
    resources = ("pods", "controllerrevisions.apps", *KINDS)
    return [resource for resource in resources for _ in api.peek_all(resource, "default")]


@pytest.mark.parametrize("resource", KINDS)
@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_pods_and_revisions_go_with_their_owner(
    api: Api, kubelet: Kubelet, resource: str, propagation: Propagation
) -> None:
    await add_node(api)
    await api.create(resource, "default", KINDS[resource])
    await wait_until(lambda: len(names(api)) == 1, "a pod")
    await kubelet.ready_all()
    await api.delete(resource, "default", "web", propagation=propagation)
    if propagation == "Foreground":
        assert api.peek(resource, "default", "web") is not None, "it waits for its pods"
    await play(kubelet, lambda: remains(api) == [], "nothing left")


@pytest.mark.parametrize("resource", ["daemonsets.apps", "statefulsets.apps"])
async def test_orphans_are_taken_over_by_a_successor(api: Api, kubelet: Kubelet, resource: str) -> None:
    """`kubectl delete --cascade=orphan` and apply again: the pods run on."""
    await add_node(api)
    await api.create(resource, "default", KINDS[resource])
    await wait_until(lambda: len(names(api)) == 1, "a pod")
    await kubelet.ready_all()
    (before,) = api.peek_all("pods", "default")
    await api.delete(resource, "default", "web", propagation="Orphan")
    await wait_until(lambda: remains(api) == ["pods", "controllerrevisions.apps"], "orphans")
    made = await api.create(resource, "default", KINDS[resource])

    def owners() -> set[str]:
        return {
            owner["uid"]
            for kind in ("pods", "controllerrevisions.apps")
            for one in api.peek_all(kind, "default")
            for owner in one["metadata"].get("ownerReferences") or ()
        }

    await wait_until(lambda: owners() == {made["metadata"]["uid"]}, "adopted")
    await wait_until(lambda: status(api, resource).get("observedGeneration") == 1, "observed")
    (after,) = api.peek_all("pods", "default")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert len(api.peek_all("controllerrevisions.apps", "default")) == 1
