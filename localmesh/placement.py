"""Whether a pod may run on a node: nodeSelector, required node affinity, taints. Pure.

Source: "Assigning Pods to Nodes" and "Taints and Tolerations" of the Kubernetes documentation. Preferences do
not matter on one node; pod affinity and topology spread are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
Json = Mapping[str, Any]


def refusal(pod_spec: Json, node: Json) -> str:
    """Why the pod cannot be placed on `node`, in the scheduler's words; "" when it can."""
    labels = node["metadata"].get("labels") or {}
    if not (pod_spec.get("nodeSelector") or {}).items() <= labels.items() or not _has_affinity(
        pod_spec, node
    ):
        return "didn't match Pod's node affinity/selector"
    for taint in _taints(node):
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerates(pod_spec, taint):
            if taint["key"] == UNSCHEDULABLE:
                return "were unschedulable"
            return f"had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"
    return ""


def _taints(node: Json) -> list[Json]:
    spec = node.get("spec") or {}
    cordoned = [{"key": UNSCHEDULABLE, "effect": "NoSchedule"}] if spec.get("unschedulable") else []
    return [*cordoned, *(taint for taint in spec.get("taints") or () if taint["key"] != UNSCHEDULABLE)]


def _tolerates(pod_spec: Json, taint: Json) -> bool:
    return any(_covers(toleration, taint) for toleration in pod_spec.get("tolerations") or ())


def _covers(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    if toleration["key"] != taint["key"]:
        return False
    return exists or (toleration.get("value") or "") == (taint.get("value") or "")


def _has_affinity(pod_spec: Json, node: Json) -> bool:
    """Terms are alternatives, the expressions of one all hold; a term without any matches nothing."""
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    labels, fields = node["metadata"].get("labels") or {}, {"metadata.name": node["metadata"]["name"]}
    for term in required.get("nodeSelectorTerms") or ():
        wanted = [(one, labels) for one in term.get("matchExpressions") or ()]
        wanted += [(one, fields) for one in term.get("matchFields") or ()]
        if wanted and all(_holds(one, have) for one, have in wanted):
            return True
    return False


def _holds(expression: Json, have: Mapping[str, str]) -> bool:
    value, values = have.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(expression["operator"], value, values)
    return False


def _compares(operator: str, value: str | None, values: Any) -> bool:
    try:
        have, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return have > bound if operator == "Gt" else have < bound
