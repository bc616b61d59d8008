from __future__ import annotations

from typing import Any

import pytest

from localmesh.placement import refusal

CORDONED = {"unschedulable": True}
TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}

ANY_GPU = {"key": "gpu", "operator": "Exists"}
OTHER_NODE = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["x"]}]}


def node(spec: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "local", "labels": labels}, "spec": spec or {}}


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("pod", "on", "fits"),
    [
        ({}, node(), True),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="ssd"), True),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="hdd"), False),
        (affinity(expression("disk", "In", "ssd", "nvme")), node(disk="nvme"), True),
        (affinity(expression("disk", "NotIn", "ssd")), node(), True),
        (affinity(expression("disk", "Exists")), node(), False),
        (affinity(expression("disk", "DoesNotExist")), node(), True),
        (affinity(expression("cores", "Gt", "3")), node(cores="4"), True),
        (affinity(expression("cores", "Lt", "3")), node(cores="4"), False),
        (affinity(expression("cores", "Gt", "3")), node(cores="many"), False),
        (affinity(expression("disk", "In", "ssd"), expression("a", "Exists")), node(a=""), True),
        (affinity({}), node(), False),
        (affinity(OTHER_NODE), node(), False),
        ({}, node(CORDONED), False),
        ({}, node({"taints": [TAINT]}), False),
        ({}, node({"taints": [TAINT | {"effect": "PreferNoSchedule"}]}), True),
        ({"tolerations": [{"operator": "Exists"}]}, node(CORDONED | {"taints": [TAINT]}), True),
        ({"tolerations": [{"key": "gpu", "value": "yes"}]}, node({"taints": [TAINT]}), True),
        ({"tolerations": [{"key": "gpu", "value": "no"}]}, node({"taints": [TAINT]}), False),
        ({"tolerations": [ANY_GPU | {"effect": "NoExecute"}]}, node({"taints": [TAINT]}), False),
        ({"tolerations": [ANY_GPU | {"effect": "NoSchedule"}]}, node({"taints": [TAINT]}), True),
    ],
)  # fmt: skip
def test_a_pod_fits_where_selector_affinity_and_taints_let_it(
    pod: dict[str, Any], on: dict[str, Any], fits: bool
) -> None:
    assert (refusal(pod, on) == "") is fits
