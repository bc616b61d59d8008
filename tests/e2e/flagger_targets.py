"""The workloads Flagger shifts traffic between: a target, its primary, their configuration and autoscaler.

Calls and bodies are those of fluxcd/flagger's pkg/canary (1.44): deployment_*.go, daemonset_*.go,
config_tracker.go and hpa_reconciler.go.
"""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from tests.e2e.flagger_api import MERGE, Api, RefusedError, controller_reference

AWAY: Final = "flagger.app/scale-to-zero"
"""A node selector that no node answers to: how a DaemonSet is scaled to zero."""
CONFIGS: Final = {"configmap": "configmaps", "secret": "secrets"}
TRACKED_SECRETS: Final = (
    "Opaque",
    "kubernetes.io/basic-auth",
    "kubernetes.io/ssh-auth",
    "kubernetes.io/tls",
)


def digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def config_references(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every place of a pod spec that names a ConfigMap or Secret: (kind, what holds the name, its key)."""
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if source.get("configMap"):
                yield "configmap", source["configMap"], "name"
            if source.get("secret"):
                yield "secret", source["secret"], "secretName" if source is volume else "name"
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for variable in container.get("env") or ():
            origin = variable.get("valueFrom") or {}
            for key, kind in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
                if origin.get(key):
                    yield kind, origin[key], "name"
        for origin in container.get("envFrom") or ():
            for key, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
                if origin.get(key):
                    yield kind, origin[key], "name"


@dataclass
class Target(ABC):
    """The workload a user owns; its primary is `NAME-primary`."""

    api: Api
    name: str
    autoscaler: str
    """Name of the HPA the Canary refers to, "" for none."""

    kind: str = ""
    plural: str = ""
    settings: tuple[str, ...] = ()
    """Fields of the spec that the primary takes over beside the template."""

    @property
    def primary(self) -> str:
        return f"{self.name}-primary"

    def get(self, name: str) -> Any:
        return self.api.required(self._path(name))

    def _path(self, name: str = "") -> str:
        return self.api.path("apps/v1", self.plural, name)

    # --- what changed ---------------------------------------------------------------------------------

    def revision(self) -> str:
        """Hash of the pod template as it was read: it changes when, and only when, a user changed it."""
        return digest(self.get(self.name)["spec"]["template"])

    def configs(self) -> dict[str, str]:
        """`configmap/NAME` or `secret/NAME` → checksum of its data; what may not be tracked is left out."""
        found: dict[str, str] = {}
        spec = self.get(self.name)["spec"]["template"]["spec"]
        for kind, name in sorted({(kind, holder[key]) for kind, holder, key in config_references(spec)}):
            obj = self.api.required(self.api.path("v1", CONFIGS[kind], name))
            annotations = obj["metadata"].get("annotations") or {}
            disabled = annotations.get("flagger.app/config-tracking", "").startswith("disable")
            if not disabled and (kind == "configmap" or obj["type"] in TRACKED_SECRETS):
                found[f"{kind}/{name}"] = digest(obj.get("data"))
        return found

    # --- the primary ----------------------------------------------------------------------------------

    def create_primary(self, canary: Mapping[str, Any]) -> None:
        target = self.get(self.name)
        if self.api.send("GET", self._path(self.primary)) is not None:
            return
        configs = self._copy_configs(canary)
        body = {
            "apiVersion": "apps/v1",
            "kind": self.kind,
            "metadata": {
                "name": self.primary,
                "namespace": self.api.namespace,
                "creationTimestamp": None,
                "labels": {"app": self.primary},
                "annotations": target["metadata"].get("annotations", {}),
                "ownerReferences": [controller_reference(canary)],
            },
            "spec": {
                **self._settings(target),
                **self._replicas(target, created=True),
                "selector": {"matchLabels": {"app": self.primary}},
                "template": self._primary_template(target, configs),
            },
            "status": {},
        }
        self.api.send("POST", self._path(), body)

    def promote(self, canary: Mapping[str, Any]) -> None:
        target, primary = self.get(self.name), self.get(self.primary)
        configs = self._copy_configs(canary)
        primary["spec"] |= self._settings(target) | self._replicas(target, created=False)
        primary["spec"]["template"] = self._primary_template(target, configs)
        primary["metadata"] |= {"annotations": {}, "labels": {"app": self.primary}}
        self.api.send("PUT", self._path(self.primary), primary)

    def _settings(self, target: Mapping[str, Any]) -> dict[str, Any]:
        return {name: target["spec"][name] for name in self.settings if name in target["spec"]}

    def _replicas(self, target: Mapping[str, Any], *, created: bool) -> dict[str, Any]:
        return {}

    def _primary_template(self, target: Mapping[str, Any], configs: Mapping[str, str]) -> dict[str, Any]:
        """The target's pods under the primary's label, with an id that makes every promotion a rollout."""
        template: dict[str, Any] = deepcopy(target["spec"]["template"])
        meta = template["metadata"]
        meta["labels"] = {**meta.get("labels", {}), "app": self.primary}
        meta["annotations"] = {**meta.get("annotations", {}), "flagger-id": str(uuid.uuid4())}
        for kind, holder, key in config_references(template["spec"]):
            if f"{kind}/{holder[key]}" in configs:
                holder[key] += "-primary"
        return template

    def _copy_configs(self, canary: Mapping[str, Any]) -> dict[str, str]:
        """Write `NAME-primary` for everything tracked: an update that may find nothing, then a creation."""
        configs = self.configs()
        for reference in configs:
            kind, _, name = reference.partition("/")
            source = self.api.required(self.api.path("v1", CONFIGS[kind], name))
            self.api.send("GET", self.api.path("v1", CONFIGS[kind], f"{name}-primary"))
            body = {
                "apiVersion": "v1",
                "kind": source["kind"],
                "metadata": {
                    "name": f"{name}-primary",
                    "namespace": self.api.namespace,
                    "creationTimestamp": None,
                    "ownerReferences": [controller_reference(canary)],
                },
                "data": source.get("data"),
            } | ({"type": source["type"]} if kind == "secret" else {})
            if self.api.send("PUT", self.api.path("v1", CONFIGS[kind], f"{name}-primary"), body) is None:
                self.api.send("POST", self.api.path("v1", CONFIGS[kind]), body)
        return configs

    # --- the autoscaler -------------------------------------------------------------------------------

    def reconcile_autoscaler(self, canary: Mapping[str, Any], *, initial: bool) -> None:
        """`HPA-primary`: made once, corrected at promotions only."""
        if not self.autoscaler:
            return
        kind = "autoscaling/v2"
        path = self.api.path(kind, "horizontalpodautoscalers", f"{self.autoscaler}-primary")
        source = self.api.required(self.api.path(kind, "horizontalpodautoscalers", self.autoscaler))
        spec = {
            **source["spec"],
            "scaleTargetRef": {**source["spec"]["scaleTargetRef"], "name": self.primary},
        }
        found = self.api.send("GET", path)
        if found is None:
            body = {
                "apiVersion": kind,
                "kind": "HorizontalPodAutoscaler",
                "metadata": {
                    "name": f"{self.autoscaler}-primary",
                    "namespace": self.api.namespace,
                    "creationTimestamp": None,
                    "labels": source["metadata"].get("labels", {}),
                    "ownerReferences": [controller_reference(canary)],
                },
                "spec": spec,
                "status": {"desiredReplicas": 0, "currentMetrics": None},
            }
            self.api.send("POST", self.api.path(kind, "horizontalpodautoscalers"), body)
        elif not initial and found["spec"] != spec:
            self.api.send("PUT", path, found | {"spec": spec})

    # --- scaling and waiting --------------------------------------------------------------------------

    @abstractmethod
    def scale_to_zero(self) -> None: ...

    @abstractmethod
    def scale_from_zero(self) -> None: ...

    @abstractmethod
    def waits(self, name: str) -> str:
        """What Flagger waits for on the workload, "" when it is ready."""


@dataclass
class DeploymentTarget(Target):
    kind: str = "Deployment"
    plural: str = "deployments"
    settings: tuple[str, ...] = (
        "progressDeadlineSeconds",
        "minReadySeconds",
        "revisionHistoryLimit",
        "strategy",
    )

    def _replicas(self, target: Mapping[str, Any], *, created: bool) -> dict[str, Any]:
        if created:
            return {"replicas": target["spec"].get("replicas") or 1}
        return {} if self.autoscaler else {"replicas": target["spec"]["replicas"]}

    def _scale(self, replicas: int) -> None:
        self.api.send("PATCH", self._path(self.name), {"spec": {"replicas": replicas}}, MERGE)

    def scale_to_zero(self) -> None:
        self._scale(0)

    def scale_from_zero(self) -> None:
        wanted = self.get(self.name)["spec"].get("replicas") or 0
        if not wanted and self.autoscaler:
            path = self.api.path("autoscaling/v2", "horizontalpodautoscalers", self.autoscaler)
            wanted = self.api.required(path)["spec"].get("minReplicas") or 1
        self._scale(wanted or self.get(self.primary)["spec"]["replicas"])

    def waits(self, name: str) -> str:
        deployment = self.get(name)
        status, replicas = deployment["status"], deployment["spec"]["replicas"]
        if deployment["metadata"]["generation"] > status.get("observedGeneration", 0):
            return f"{name}: its generation is not observed"
        conditions = {one["type"]: one for one in status.get("conditions", ())}
        if conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded":
            raise RefusedError(f"{name} exceeded its progress deadline: {status}")
        updated = status.get("updatedReplicas", 0)
        if updated < replicas:
            return f"{name}: {updated} of {replicas} replicas are updated"
        if status.get("replicas", 0) > updated:
            return f"{name}: old replicas are to terminate"
        if status.get("availableReplicas", 0) < updated:
            return f"{name}: not all updated replicas are available"
        return ""


@dataclass
class DaemonSetTarget(Target):
    kind: str = "DaemonSet"
    plural: str = "daemonsets"
    settings: tuple[str, ...] = ("minReadySeconds", "revisionHistoryLimit", "updateStrategy")

    def revision(self) -> str:
        """Where it may run does not count: Flagger itself changes that."""
        template = self.get(self.name)["spec"]["template"]
        selector = template["spec"].get("nodeSelector") or {}
        template["spec"]["nodeSelector"] = {key: value for key, value in selector.items() if key != AWAY}
        return digest(template)

    def _primary_template(self, target: Mapping[str, Any], configs: Mapping[str, str]) -> dict[str, Any]:
        template = super()._primary_template(target, configs)
        (template["spec"].get("nodeSelector") or {}).pop(AWAY, None)
        return template

    def _select(self, *, away: bool) -> None:
        target = self.get(self.name)
        selector = dict(target["spec"]["template"]["spec"].get("nodeSelector") or {})
        selector.pop(AWAY, None)
        target["spec"]["template"]["spec"]["nodeSelector"] = selector | ({AWAY: "true"} if away else {})
        self.api.send("PUT", self._path(self.name), target)

    def scale_to_zero(self) -> None:
        self._select(away=True)

    def scale_from_zero(self) -> None:
        self._select(away=False)

    def waits(self, name: str) -> str:
        daemon_set = self.get(name)
        status = daemon_set["status"]
        if daemon_set["metadata"]["generation"] > status.get("observedGeneration", 0):
            return f"{name}: its generation is not observed"
        desired = status.get("desiredNumberScheduled", 0)
        if status.get("updatedNumberScheduled", 0) < desired:
            return f"{name}: not all of {desired} pods are updated"
        if status.get("numberAvailable", 0) < desired:
            return f"{name}: not all of {desired} pods are available"
        return ""


def target_of(api: Api, canary: Mapping[str, Any]) -> Target:
    reference = canary["spec"]["targetRef"]
    autoscaler = (canary["spec"].get("autoscalerRef") or {}).get("name", "")
    kinds = {"Deployment": DeploymentTarget, "DaemonSet": DaemonSetTarget}
    return kinds[reference["kind"]](api, reference["name"], autoscaler)
