"""What a pod is an instance of, from its owner and its labels. Pure; used for telemetry only.

A ReplicaSet stands for the Deployment that made it where the pod says so itself: its
`pod-template-hash` is the end of the ReplicaSet's name (Argo Rollouts has a label of its own for
the same). No other object is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smi.names import Workload

_MAKERS: Final = (("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout"))


def workload_of(labels: Mapping[str, str], owner: tuple[str, str]) -> Workload:
    """The workload of a pod. `owner`: (kind, name) of its controller, empty texts without one."""
    kind, name = _outermost(labels, *owner)
    app = labels.get("app") or labels.get("app.kubernetes.io/name") or ""
    version = labels.get("version") or labels.get("app.kubernetes.io/version") or ""
    return Workload(kind, name, app, version)


def _outermost(labels: Mapping[str, str], kind: str, name: str) -> tuple[str, str]:
    if kind == "ReplicaSet":
        for label, maker in _MAKERS:
            end = f"-{labels.get(label, '')}"
            if len(end) > 1 and name.endswith(end):
                return maker, name.removesuffix(end)
    return kind, name
