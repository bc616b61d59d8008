"""pods/eviction (policy/v1, for `kubectl drain`): deletion that asks the pod's disruption budget first."""

from __future__ import annotations

from localmesh.apiserver import selectors
from localmesh.apiserver.call import Call, Target
from localmesh.apiserver.errors import ApiError, Cause, internal
from localmesh.apiserver.jsonvalue import JsonObject, child, lookup
from localmesh.apiserver.metadata import now_text
from localmesh.apiserver.options import deletes_dry, read_delete
from localmesh.apiserver.rest import Rest

BUDGETS = "poddisruptionbudgets.policy"


async def evict(rest: Rest, pod: Target, body: JsonObject, call: Call) -> None:
    """Delete the pod. Raises ApiError 429 while its budget does not let it go, to be tried again later."""
    asked = child(body, "deleteOptions")
    call.dry_run = call.dry_run or deletes_dry({}, asked)
    obj = await rest.get(pod)
    budget = _budget_of(rest, pod.namespace, obj)
    if budget is not None and not _is_free(obj, budget):
        await _take(rest, pod, budget, call)
    await rest.delete(pod, read_delete({}, asked), call)


def _budget_of(rest: Rest, namespace: str, pod: JsonObject) -> JsonObject | None:
    labels = pod["metadata"].get("labels") or {}
    found = [
        item.value
        for item in rest.store.items(BUDGETS, namespace)
        if selectors.from_json(lookup(item.value, "spec", "selector") or {}).matches(labels)
        and lookup(item.value, "spec", "selector") is not None
    ]
    if len(found) > 1:
        why = (
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
        raise internal(why)
    return found[0] if found else None


def _is_free(pod: JsonObject, budget: JsonObject) -> bool:
    """Pods that serve nobody may always go; running ones that are not ready while enough others are."""
    if "deletionTimestamp" in pod["metadata"] or lookup(pod, "status", "phase") != "Running":
        return True
    conditions = lookup(pod, "status", "conditions") or []
    if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
        return False
    if lookup(budget, "spec", "unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = child(budget, "status")
    desired = status.get("desiredHealthy") or 0
    return bool(desired > 0 and (status.get("currentHealthy") or 0) >= desired)


async def _take(rest: Rest, pod: Target, budget: JsonObject, call: Call) -> None:
    """Use up one of the disruptions that the budget allows, at once: two evictions must not share one."""
    name, status = budget["metadata"]["name"], child(budget, "status")
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _refused(f"The disruption budget {name} is still being processed by the server.")
    if not status.get("disruptionsAllowed"):
        have, want = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
        raise _refused(f"The disruption budget {name} needs {want} healthy pods and has {have} currently")
    resource = rest.registry.get(BUDGETS)
    assert resource is not None

    def spend(current: JsonObject) -> JsonObject:
        state = current.setdefault("status", {})
        if state.get("disruptionsAllowed", 0) < 1:
            raise _refused(f"The disruption budget {name} allows no more disruptions")
        state["disruptionsAllowed"] -= 1
        state.setdefault("disruptedPods", {})[pod.name] = now_text()
        return current

    place = Target(resource, resource.storage_version, pod.namespace, name, "status")
    await rest.mutate(place, spend, call)


def _refused(why: str) -> ApiError:
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    error = ApiError(429, "TooManyRequests", message)
    error.details = {"causes": [Cause("DisruptionBudget", "", why).as_json()]}
    return error
