"""Patches as pure functions from one JSON value to the next: merge, JSON patch, strategic merge, and apply.

None of them changes its arguments. Sources: RFC 7396, RFC 6902 with RFC 6901 pointers, and Kubernetes'
strategic merge directives ($patch, $retainKeys, $setElementOrder/…, $deleteFromPrimitiveList/…).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localmesh.apiserver.errors import ApiError, bad_request
from localmesh.apiserver.jsonvalue import JsonObject, clone

MAX_OPERATIONS = 10_000
"""JSON patch operations accepted in one request, as upstream."""


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


# --- JSON patch ----------------------------------------------------------------------------------


def _rejected() -> ApiError:
    """What upstream answers for an operation that does not apply, a failed test included."""
    message = "the server rejected our request due to an error in our request"
    return ApiError(422, "Invalid", message, {})


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902; ApiError 400 for a malformed patch, 422 when an operation does not apply."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise bad_request("a JSON patch must be an array of operations")
    if len(operations) > MAX_OPERATIONS:
        raise ApiError(
            413, "RequestEntityTooLarge", f"a JSON patch may have at most {MAX_OPERATIONS} operations"
        )
    result = clone(target)
    for operation in operations:
        result = _operate(result, operation)
    return result


def _operate(document: Any, operation: JsonObject) -> Any:
    name = operation.get("op")
    path = _pointer(operation.get("path"))
    match name:
        case "add":
            return _add(document, path, clone(_value(operation)))
        case "remove":
            return _remove(document, path)[0]
        case "replace":
            _find(document, path)
            if not path:
                return clone(_value(operation))
            return _add(_remove(document, path)[0], path, clone(_value(operation)))
        case "move":
            document, moved = _remove(document, _pointer(operation.get("from")))
            return _add(document, path, moved)
        case "copy":
            return _add(document, path, clone(_find(document, _pointer(operation.get("from")))))
        case "test":
            if not _same(_find(document, path), _value(operation)):
                raise _rejected()
            return document
        case _:
            raise bad_request(f"unexpected JSON patch operation {name!r}")


def _value(operation: JsonObject) -> Any:
    if "value" not in operation:
        raise bad_request(f"JSON patch operation {operation.get('op')!r} needs a value")
    return operation["value"]


def _same(left: Any, right: Any) -> bool:
    """Equality where true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _pointer(text: Any) -> list[str]:
    if text == "":
        return []
    if not isinstance(text, str) or not text.startswith("/"):
        raise bad_request(f"JSON patch path must begin with '/', got {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _index(container: list[Any], step: str, *, beyond: bool = False) -> int:
    if step == "-" and beyond:
        return len(container)
    if not step.isdecimal() or (len(step) > 1 and step[0] == "0"):
        raise _rejected()
    index = int(step)
    if index > len(container) or (index == len(container) and not beyond):
        raise _rejected()
    return index


def _find(document: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(document, list):
            document = document[_index(document, step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            raise _rejected()
    return document


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    container, step = _find(document, path[:-1]), path[-1]
    if isinstance(container, list):
        container.insert(_index(container, step, beyond=True), value)
    elif isinstance(container, dict):
        container[step] = value
    else:
        raise _rejected()
    return document


def _remove(document: Any, path: Sequence[str]) -> tuple[Any, Any]:
    if not path:
        return None, document
    container, step = _find(document, path[:-1]), path[-1]
    if isinstance(container, list):
        return document, container.pop(_index(container, step))
    if isinstance(container, dict) and step in container:
        return document, container.pop(step)
    raise _rejected()


# --- strategic merge -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """How a field merges: lists by `keys` ("" alone means a set of scalars), objects keeping only given
    keys.
    """

    merges: bool = False
    keys: tuple[str, ...] = ()
    retain_keys: bool = False


REPLACE = Rule()


@dataclass(frozen=True, slots=True)
class Shape:
    """What strategic merge needs to know of a type: the rule and the type of each of its fields."""

    field: Callable[[str], tuple[Rule, Shape]]


def _opaque(_name: str) -> tuple[Rule, Shape]:
    return REPLACE, OPAQUE


OPAQUE = Shape(_opaque)

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def strategic(target: Any, patch: Any, shape: Shape) -> Any:
    """Strategic merge of `patch` into `target`; raises ApiError 400 for misused directives."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch must be an object")
    return _merge_object(target if isinstance(target, dict) else {}, patch, shape)


def _merge_object(target: JsonObject, patch: JsonObject, shape: Shape) -> JsonObject:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: clone(value) for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown $patch directive {directive!r}")
    retained = patch.get("$retainKeys")
    result = {key: value for key, value in target.items() if retained is None or key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key[len(_DELETE) :]
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif not key.startswith("$"):
            _merge_field(result, key, value, shape)
    for key, order in patch.items():
        name = key[len(_ORDER) :]
        if key.startswith(_ORDER) and isinstance(result.get(name), list):
            rule, _ = shape.field(name)
            result[name] = _in_order(result[name], target.get(name) or [], order, rule)
    return result


def _merge_field(result: JsonObject, key: str, value: Any, shape: Shape) -> None:
    rule, inner = shape.field(key)
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        current = result.get(key)
        result[key] = _merge_object(current if isinstance(current, dict) else {}, value, inner)
    elif isinstance(value, list) and rule.merges:
        result[key] = _merge_list(result.get(key) or [], value, rule, inner)
    else:
        result[key] = clone(value)


def _merge_list(target: list[Any], patch: list[Any], rule: Rule, shape: Shape) -> list[Any]:
    if not rule.keys:
        return target + [item for item in patch if item not in target]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [clone(item) for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    result = list(target)
    for item in patch:
        if not isinstance(item, dict):
            raise bad_request(f"expected objects with {', '.join(rule.keys)} in a list that merges by key")
        identity = _identity(item, rule)
        places = [place for place, known in enumerate(result) if _identity(known, rule) == identity]
        if item.get("$patch") == "delete":
            result = [known for place, known in enumerate(result) if place not in places]
        elif places:
            result[places[0]] = _merge_object(result[places[0]], item, shape)
        else:
            result.append(_merge_object({}, item, shape))
    return result


def _identity(item: Any, rule: Rule) -> Any:
    if not rule.keys:
        return item
    return tuple(item.get(key) for key in rule.keys) if isinstance(item, dict) else None


def _in_order(items: list[Any], before: list[Any], order: list[Any], rule: Rule) -> list[Any]:
    """`items` in the order the client gave;
    items it does not know keep their place relative to the others.
    """
    wanted = {_hashable(_identity(item, rule)): place for place, item in enumerate(order)}
    known = [item for item in items if _hashable(_identity(item, rule)) in wanted]
    known.sort(key=lambda item: wanted[_hashable(_identity(item, rule))])
    others = [item for item in items if _hashable(_identity(item, rule)) not in wanted]
    places = {_hashable(_identity(item, rule)): place for place, item in enumerate(before)}
    result: list[Any] = []
    for item in known:
        here = places.get(_hashable(_identity(item, rule)), -1)  # new items push nothing aside
        while others and places.get(_hashable(_identity(others[0], rule)), len(before)) < here:
            result.append(others.pop(0))
        result.append(item)
    return result + others


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, dict | list) else value


# --- rules of the built-in kinds -------------------------------------------------------------------


def _by(*keys: str) -> Rule:
    return Rule(merges=True, keys=keys)


_SET = Rule(merges=True)
_CONDITIONS = {"conditions": _by("type")}
_CONTAINER = {
    "ports": _by("containerPort"),
    "env": _by("name"),
    "volumeMounts": _by("mountPath"),
    "volumeDevices": _by("devicePath"),
}
_WEBHOOK_LIST = {"webhooks": _by("name")}
_MATCH_CONDITIONS = {"matchConditions": _by("name")}

RULES: Mapping[str, Mapping[str, Rule]] = {
    "V1ObjectMeta": {"ownerReferences": _by("uid"), "finalizers": _SET},
    "V1PodSpec": {
        "volumes": Rule(merges=True, keys=("name",), retain_keys=True),
        "initContainers": _by("name"),
        "containers": _by("name"),
        "ephemeralContainers": _by("name"),
        "imagePullSecrets": _by("name"),
        "hostAliases": _by("ip"),
        "topologySpreadConstraints": _by("topologyKey"),
        "resourceClaims": Rule(merges=True, keys=("name",), retain_keys=True),
        "schedulingGates": _by("name"),
    },
    "V1Container": _CONTAINER,
    "V1EphemeralContainer": _CONTAINER,
    "V1PodStatus": {
        **_CONDITIONS,
        "podIPs": _by("ip"),
        "hostIPs": _by("ip"),
        "resourceClaimStatuses": Rule(merges=True, keys=("name",), retain_keys=True),
    },
    "V1ServiceSpec": {"ports": _by("port")},
    "V1ServiceAccount": {"secrets": _by("name")},
    "V1NodeSpec": {"podCIDRs": _SET},
    "V1NodeStatus": {**_CONDITIONS, "addresses": _by("type")},
    "V1DeploymentSpec": {"strategy": Rule(retain_keys=True)},
    "V1MutatingWebhookConfiguration": _WEBHOOK_LIST,
    "V1ValidatingWebhookConfiguration": _WEBHOOK_LIST,
    "V1MutatingWebhook": _MATCH_CONDITIONS,
    "V1ValidatingWebhook": _MATCH_CONDITIONS,
    **{
        f"V1{kind}Status": _CONDITIONS
        for kind in (
            "APIService", "DaemonSet", "Deployment", "Job", "Namespace", "PersistentVolumeClaim",
            "PodDisruptionBudget", "ReplicaSet", "ReplicationController", "Service", "StatefulSet",
        )
    },
    "V2HorizontalPodAutoscalerStatus": _CONDITIONS,
}  # fmt: skip
"""patchStrategy and patchMergeKey of the types we serve, by type and field.
OpenAPI publishes the same table.
"""
