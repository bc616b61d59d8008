"""Ownership: who controls an object, label selectors, adoption and release (ControllerRef).

Source: "Garbage Collection" and the controller reference rules of the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError


def controller_of(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference with `controller: true`."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def owner_reference(owner: Mapping[str, Any], api_version: str, kind: str) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """A LabelSelector (matchLabels, matchExpressions) against labels; an empty one selects nothing here."""
    if not selector:
        return False
    have = labels or {}
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    if not wanted and not expressions:
        return False
    return all(have.get(k) == v for k, v in wanted.items()) and all(_holds(e, have) for e in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def _any(_obj: Mapping[str, Any]) -> bool:
    return True


async def claim(
    api: Api,
    owner: Mapping[str, Any],
    api_version: str,
    kind: str,
    resource: str,
    adoptable: Callable[[Mapping[str, Any]], bool] = _any,
) -> list[dict[str, Any]]:
    """The objects `owner` controls; matching orphans are adopted, those that match no more released."""
    namespace, uid = owner["metadata"]["namespace"], owner["metadata"]["uid"]
    selector = owner["spec"].get("selector")
    leaving = "deletionTimestamp" in owner["metadata"]
    mine: list[dict[str, Any]] = []
    for obj in await api.list(resource, namespace):
        controller = controller_of(obj)
        matches = selects(selector, obj["metadata"].get("labels"))
        if controller is not None and controller.get("uid") == uid:
            if matches or leaving:
                mine.append(obj)
            else:
                await _set_owners(api, resource, obj, [o for o in _owners(obj) if o.get("uid") != uid])
        elif controller is None and matches and not leaving and "deletionTimestamp" not in obj["metadata"]:
            if not adoptable(obj):
                continue
            adopted = [*_owners(obj), owner_reference(owner, api_version, kind)]
            changed = await _set_owners(api, resource, obj, adopted)
            if changed is not None:
                mine.append(changed)
    return mine


def _owners(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(obj["metadata"].get("ownerReferences") or ())


async def _set_owners(
    api: Api, resource: str, obj: Mapping[str, Any], owners: list[dict[str, Any]]
) -> dict[str, Any] | None:
    meta = obj["metadata"]
    patch = {
        "metadata": {
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "ownerReferences": owners or None,
        }
    }
    try:
        return await api.patch(resource, meta.get("namespace"), meta["name"], patch)
    except ApiError as error:
        if error.code in (404, 409):  # it changed: the watch brings us back
            return None
        raise


async def current(api: Api, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
    """The object now, or None."""
    try:
        return await api.get(resource, namespace or None, name)
    except ApiError as error:
        if error.code == 404:
            return None
        raise


async def delete_quietly(
    api: Api, resource: str, namespace: str | None, name: str, uid: str | None = None, propagation: Any = None
) -> None:
    """Delete; that it is gone already, or replaced, is fine."""
    try:
        await api.delete(resource, namespace, name, uid=uid, propagation=propagation)
    except ApiError as error:
        if error.code not in (404, 409):
            raise
