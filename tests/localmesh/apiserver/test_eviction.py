"""pods/eviction and disruption budgets, with a budget's status as its controller would have written it."""

from __future__ import annotations

from typing import Any

from tests.localmesh.apiserver.conftest import Answer, Client

PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
LABELS = {"app": "web"}
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
UNREADY = {"phase": "Running"}


async def write_status(call: Client, path: str, status: dict[str, Any]) -> None:
    kind = "application/merge-patch+json"
    assert (await call("PATCH", f"{path}/status", {"status": status}, content_type=kind)).status == 200


async def add_pod(call: Client, name: str, status: dict[str, Any]) -> None:
    spec = {"containers": [{"name": "c", "image": "sh"}]}
    assert (
        await call("POST", PODS, {"metadata": {"name": name, "labels": LABELS}, "spec": spec})
    ).status == 201
    await write_status(call, f"{PODS}/{name}", status)


async def add_budget(call: Client, name: str = "web", **status: int) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": LABELS}}
    assert (await call("POST", BUDGETS, {"metadata": {"name": name}, "spec": spec})).status == 201
    await write_status(call, f"{BUDGETS}/{name}", {"observedGeneration": 1, **status})


async def evict(call: Client, name: str, **options: Any) -> Answer:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    return await call(
        "POST", f"{PODS}/{name}/eviction", body | ({"deleteOptions": options} if options else {})
    )


async def exists(call: Client, name: str) -> bool:
    return (await call("GET", f"{PODS}/{name}")).status == 200


async def test_a_dry_eviction_evicts_nothing(call: Client) -> None:
    await add_pod(call, "a", READY)
    await add_budget(call, currentHealthy=2, desiredHealthy=1, disruptionsAllowed=1)
    assert (await evict(call, "a", dryRun=["All"])).status == 201
    assert await exists(call, "a")
    assert (await call("GET", f"{BUDGETS}/web")).body["status"]["disruptionsAllowed"] == 1


async def test_a_budget_is_used_up(call: Client) -> None:
    for name in ("a", "b"):
        await add_pod(call, name, READY)
    await add_budget(call, currentHealthy=2, desiredHealthy=1, disruptionsAllowed=1)
    assert (await evict(call, "a")).status == 201
    assert not await exists(call, "a")
    refused = await evict(call, "b")
    assert (refused.status, refused.body["reason"]) == (429, "TooManyRequests")
    assert refused.body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    (cause,) = refused.body["details"]["causes"]
    assert "needs 1 healthy pods and has 2 currently" in cause["message"]
    assert "a" in (await call("GET", f"{BUDGETS}/web")).body["status"]["disruptedPods"]
    assert await exists(call, "b")


async def test_pods_that_serve_nobody_may_go(call: Client) -> None:
    await add_budget(call, currentHealthy=1, desiredHealthy=1, disruptionsAllowed=0)
    for name, status in (("ended", {"phase": "Failed"}), ("ill", UNREADY)):
        await add_pod(call, name, status)
        assert (await evict(call, name)).status == 201
    await write_status(call, f"{BUDGETS}/web", {"currentHealthy": 0})
    await add_pod(call, "ill", UNREADY)
    assert (await evict(call, "ill")).status == 429, "it might be needed"


async def test_a_budget_that_changed_is_waited_for(call: Client) -> None:
    await add_pod(call, "a", READY)
    await add_budget(call, disruptionsAllowed=1, currentHealthy=1)
    await write_status(call, f"{BUDGETS}/web", {"observedGeneration": 0})
    refused = await evict(call, "a")
    assert "still being processed" in refused.body["details"]["causes"][0]["message"]
    await add_budget(call, "other")
    assert (await evict(call, "a")).status == 500
