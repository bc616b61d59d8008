"""A stand-in for Flagger 1.44: the API calls of a canary run, in Flagger's order, over plain HTTPS.

Order and bodies are those of fluxcd/flagger (pkg/controller/scheduler.go, pkg/canary, pkg/router). What
Flagger asks Prometheus is a function here, `analyse`; `tests/e2e/flagger.py` has the queries. Not played:
the config tracker, HPAs, webhooks, mirroring, A/B tests, the leader's lease.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from tests.localmesh.kube_kit import Kube

MERGE: Final = "application/merge-patch+json"
SPLIT_VERSIONS: Final = {
    "smi:v1alpha1": "v1alpha1",
    "smi:v1alpha2": "v1alpha2",
    "smi:v1alpha3": "v1alpha3",
    "linkerd": "v1alpha1",
    "osm": "v1alpha2",
}
"""Provider of a Canary → the TrafficSplit version Flagger writes (pkg/router/factory.go)."""
TOTAL_WEIGHT: Final = 100

CANARY_CRD: Final = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: canaries.flagger.app}
spec:
  group: flagger.app
  names: {kind: Canary, listKind: CanaryList, plural: canaries, singular: canary}
  scope: Namespaced
  versions:
  - name: v1beta1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


class Phase(StrEnum):
    """Flagger's phases that a weighted canary goes through."""

    NEW = ""
    INITIALIZING = "Initializing"
    INITIALIZED = "Initialized"
    PROGRESSING = "Progressing"
    PROMOTING = "Promoting"
    FINALISING = "Finalising"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


UNDER_WAY: Final = frozenset({Phase.PROGRESSING, Phase.PROMOTING, Phase.FINALISING})


class RefusedError(AssertionError):
    """The API server did not do what Flagger asked; the text holds the request and the Status."""


@dataclass
class Api:
    """One namespace's objects by path; remembers every write."""

    kube: Kube
    namespace: str
    writes: list[str] = field(default_factory=list)
    """`verb plural/name`, in order; what only tells people (events, the Canary's status) is left out."""

    def path(self, group_version: str, plural: str, name: str = "") -> str:
        root = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """The answered object; None for 404 to a GET. Raises RefusedError for any other refusal."""
        code, answer = self.kube.call(method, path, body, kind)
        if code == 404 and method == "GET":
            return None
        if code >= 300:
            raise RefusedError(f"{method} {path}: {code} {answer.decode(errors='replace')}")
        if method != "GET" and not path.endswith(("/status", "/events")):
            where = f"{path}/{body['metadata']['name']}" if method == "POST" else path
            self.writes.append(f"{method} {'/'.join(where.split('/')[-2:])}")
        return json.loads(answer)

    def required(self, path: str) -> Any:
        found = self.send("GET", path)
        if found is None:
            raise RefusedError(f"GET {path}: 404, Flagger gives up here")
        return found


def controller_reference(owner: Mapping[str, Any]) -> dict[str, Any]:
    """As metav1.NewControllerRef writes it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def written_weight(version: str, weight: int) -> int | str:
    """A weight as Go writes it: a Quantity (a string) in v1alpha1, a number later."""
    return str(weight) if version == "v1alpha1" else weight


@dataclass
class SplitRouter:
    """pkg/router/smi*.go: the TrafficSplit of one Canary in one version."""

    api: Api
    version: str
    apex: str
    owner: Mapping[str, Any]

    def _path(self, name: str = "") -> str:
        return self.api.path(f"split.smi-spec.io/{self.version}", "trafficsplits", name)

    def _backends(self, primary: int, canary: int) -> list[dict[str, Any]]:
        return [
            {"service": f"{self.apex}-canary", "weight": written_weight(self.version, canary)},
            {"service": f"{self.apex}-primary", "weight": written_weight(self.version, primary)},
        ]

    def reconcile(self) -> None:
        """Create the split with 100/0, or correct all but its weights."""
        spec = {"service": self.apex, "backends": self._backends(TOTAL_WEIGHT, 0)}
        found = self.api.send("GET", self._path(self.apex))
        if found is None:
            body = {
                "apiVersion": f"split.smi-spec.io/{self.version}",
                "kind": "TrafficSplit",
                "metadata": {
                    "name": self.apex,
                    "namespace": self.api.namespace,
                    "creationTimestamp": None,  # Go's zero time
                    "ownerReferences": [controller_reference(self.owner)],
                },
                "spec": spec,
            }
            self.api.send("POST", self._path(), body)
        elif _but_weights(found["spec"]) != _but_weights(spec):
            self.api.send("PUT", self._path(self.apex), found | {"spec": spec})

    def routes(self) -> tuple[int, int]:
        """Weights of primary and canary."""
        found = self.api.required(self._path(self.apex))
        weights = {one["service"]: int(one["weight"]) for one in found["spec"]["backends"]}
        routes = weights.get(f"{self.apex}-primary", 0), weights.get(f"{self.apex}-canary", 0)
        if routes == (0, 0):
            raise RefusedError(f"TrafficSplit {self.apex} has no routes: {found['spec']}")
        return routes

    def set_routes(self, primary: int, canary: int) -> None:
        """Update with the resourceVersion just read; the Go types know no status and send none."""
        found = self.api.required(self._path(self.apex))
        found.pop("status", None)
        found["spec"]["backends"] = self._backends(primary, canary)
        self.api.send("PUT", self._path(self.apex), found)


def _but_weights(spec: Mapping[str, Any]) -> Any:
    return spec["service"], [one["service"] for one in spec["backends"]], spec.get("matches")


@dataclass
class FlaggerRun:
    """Flagger's care of one Canary whose target is a Deployment; `advance` is one tick."""

    api: Api
    name: str
    analyse: Callable[[int], bool]
    """Canary's weight → are all its metric checks fine."""

    def start(self) -> None:
        """What Flagger looks at before it works: the server's version and its own kinds."""
        code, version = self.api.kube.call("GET", "/version")
        if code != 200 or int(json.loads(version)["minor"].rstrip("+")) < 11:
            raise RefusedError(f"GET /version: {code} {version!r}, Flagger wants 1.11 or newer")
        self.api.required("/apis/flagger.app/v1beta1/canaries?limit=1")
        if self.phase() is Phase.NEW:
            self._set_status(phase=Phase.INITIALIZING)

    def phase(self) -> Phase:
        return _phase(self._canary())

    def advance(self) -> str:
        """One tick; returns what it did or waits for, in a few words."""
        canary = self._canary()
        status, phase = canary.get("status") or {}, _phase(canary)
        target = self._deployment(self.name)
        router = SplitRouter(self.api, SPLIT_VERSIONS[canary["spec"]["provider"]], self.name, canary)
        self._reconcile_service(canary, f"{self.name}-canary", self.name)
        self._reconcile_service(canary, f"{self.name}-primary", f"{self.name}-primary")
        self._create_primary(canary, target)
        initial = phase in (Phase.NEW, Phase.INITIALIZING)
        if initial and (waits := self._not_ready(f"{self.name}-primary")):
            return waits
        self._reconcile_service(canary, self.name, f"{self.name}-primary")
        if initial:
            self._scale(0)
        router.reconcile()
        revision = _revision(target)
        if initial:
            self._set_status(
                phase=Phase.INITIALIZED, lastAppliedSpec=revision, lastPromotedSpec=revision, canaryWeight=0
            )
            return self._tell("Normal", "Initialization done!")
        known = (status.get("lastAppliedSpec"), status.get("lastPromotedSpec"))
        if phase not in UNDER_WAY and revision in known:
            return "no new revision"
        if waits := self._not_ready(f"{self.name}-primary"):
            return waits
        primary_weight, canary_weight = router.routes()
        if phase not in UNDER_WAY:
            self._tell("Normal", f"New revision detected! Scaling up {self.name}")
            primary = self._deployment(f"{self.name}-primary")
            self._scale(target["spec"].get("replicas") or primary["spec"]["replicas"])
            self._set_status(
                phase=Phase.PROGRESSING, lastAppliedSpec=revision, canaryWeight=0, failedChecks=0
            )
            return "scaled up"
        if phase is Phase.PROGRESSING and revision != status["lastAppliedSpec"]:
            router.set_routes(TOTAL_WEIGHT, 0)
            self._set_status(lastAppliedSpec=revision, canaryWeight=0, failedChecks=0)
            return self._tell("Normal", "New revision detected! Restarting analysis")
        if waits := self._not_ready(self.name):
            return waits
        return self._shift(canary, status, phase, router, primary_weight, canary_weight)

    def _shift(
        self,
        canary: Mapping[str, Any],
        status: Mapping[str, Any],
        phase: Phase,
        router: SplitRouter,
        primary_weight: int,
        canary_weight: int,
    ) -> str:
        analysis = canary["spec"]["analysis"]
        failed = status.get("failedChecks", 0)
        if phase is Phase.PROMOTING:
            router.set_routes(TOTAL_WEIGHT, 0)
            self._set_status(phase=Phase.FINALISING)
            return self._tell("Normal", "Routing all traffic to primary")
        if phase is Phase.FINALISING:
            self._scale(0)
            self._set_status(
                phase=Phase.SUCCEEDED, canaryWeight=0, lastPromotedSpec=status["lastAppliedSpec"]
            )
            return self._tell("Normal", f"Promotion completed! Scaling down {self.name}")
        if failed >= analysis["threshold"]:
            router.set_routes(TOTAL_WEIGHT, 0)
            self._scale(0)
            self._set_status(phase=Phase.FAILED, canaryWeight=0)
            return self._tell("Warning", f"Canary failed! Scaling down {self.name}")
        if canary_weight and not self.analyse(canary_weight):
            self._set_status(failedChecks=failed + 1)
            return self._tell("Warning", f"Halt {self.name} advancement")
        if canary_weight < analysis["maxWeight"]:
            weight = min(canary_weight + analysis["stepWeight"], TOTAL_WEIGHT)
            router.set_routes(max(primary_weight - analysis["stepWeight"], 0), weight)
            self._set_status(canaryWeight=weight)
            return self._tell("Normal", f"Advance {self.name} canary weight {weight}")
        self._promote()
        self._set_status(phase=Phase.PROMOTING)
        return self._tell("Normal", f"Copying {self.name} template spec to {self.name}-primary")

    def _canary(self) -> Any:
        return self.api.required(self.api.path("flagger.app/v1beta1", "canaries", self.name))

    def _set_status(self, **changes: Any) -> None:
        """PUT of the status subresource."""
        path = self.api.path("flagger.app/v1beta1", "canaries", self.name)
        found = self.api.required(path)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found["status"] = {**(found.get("status") or {}), **changes, "lastTransitionTime": stamp}
        kept = self.api.send("PUT", f"{path}/status", found)["status"]
        if kept != found["status"]:
            raise RefusedError(f"status of {self.name}: wrote {found['status']}, kept {kept}")

    def _deployment(self, name: str) -> Any:
        return self.api.required(self.api.path("apps/v1", "deployments", name))

    def _scale(self, replicas: int) -> None:
        path = self.api.path("apps/v1", "deployments", self.name)
        self.api.send("PATCH", path, {"spec": {"replicas": replicas}}, MERGE)

    def _not_ready(self, name: str) -> str:
        """What Flagger waits for on this Deployment, "" when it is ready (deployment_ready.go)."""
        deployment = self._deployment(name)
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

    def _reconcile_service(self, canary: Mapping[str, Any], name: str, app: str) -> None:
        """Create, or update where ports, selector, labels or annotations differ from what is wanted."""
        port = canary["spec"]["service"]["port"]
        ports = [{"name": "http", "protocol": "TCP", "port": port, "targetPort": port}]
        found = self.api.send("GET", self.api.path("v1", "services", name))
        if found is None:
            body = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": name,
                    "namespace": self.api.namespace,
                    "creationTimestamp": None,
                    "labels": {"app": name},
                    "ownerReferences": [controller_reference(canary)],
                },
                "spec": {"type": "ClusterIP", "selector": {"app": app}, "ports": ports},
                "status": {"loadBalancer": {}},
            }
            self.api.send("POST", self.api.path("v1", "services"), body)
            return
        meta, spec = found["metadata"], found["spec"]
        is_as = (spec["ports"], spec["selector"], meta.get("labels"), meta.get("annotations") or {})
        if is_as != (ports, {"app": app}, {"app": name}, {}):
            spec |= {"ports": ports, "selector": {"app": app}}
            meta |= {"labels": {"app": name}, "annotations": {}}
            self.api.send("PUT", self.api.path("v1", "services", name), found)

    def _create_primary(self, canary: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        name = f"{self.name}-primary"
        if self.api.send("GET", self.api.path("apps/v1", "deployments", name)) is not None:
            return
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": name,
                "namespace": self.api.namespace,
                "creationTimestamp": None,
                "labels": {"app": name},
                "annotations": target["metadata"].get("annotations", {}),
                "ownerReferences": [controller_reference(canary)],
            },
            "spec": {
                **_rollout_settings(target),
                "replicas": target["spec"].get("replicas") or 1,
                "selector": {"matchLabels": {"app": name}},
                "template": _primary_template(target, name),
            },
            "status": {},
        }
        self.api.send("POST", self.api.path("apps/v1", "deployments"), body)

    def _promote(self) -> None:
        target, primary = self._deployment(self.name), self._deployment(f"{self.name}-primary")
        name = primary["metadata"]["name"]
        primary["spec"] |= _rollout_settings(target) | {
            "replicas": target["spec"]["replicas"],
            "template": _primary_template(target, name),
        }
        primary["metadata"] |= {"annotations": {}, "labels": {"app": name}}
        self.api.send("PUT", self.api.path("apps/v1", "deployments", name), primary)

    def _tell(self, kind: str, text: str) -> str:
        """POST an event, as client-go's recorder does."""
        canary = self._canary()
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{self.name}.{uuid.uuid4().hex[:16]}",
                "namespace": self.api.namespace,
                "creationTimestamp": None,
            },
            "involvedObject": {
                **{key: canary[key] for key in ("apiVersion", "kind")},
                **{key: canary["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")},
            },
            "reason": "Synced",
            "message": text,
            "source": {"component": "flagger"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": "flagger",
            "reportingInstance": "",
        }
        self.api.send("POST", self.api.path("v1", "events"), body)
        return text


def _phase(canary: Mapping[str, Any]) -> Phase:
    return Phase((canary.get("status") or {}).get("phase", ""))


def _revision(target: Mapping[str, Any]) -> str:
    """Hash of the pod template as it was read: it changes when, and only when, a user changed it."""
    return sha256(json.dumps(target["spec"]["template"], sort_keys=True).encode()).hexdigest()[:16]


def _rollout_settings(target: Mapping[str, Any]) -> dict[str, Any]:
    names = ("progressDeadlineSeconds", "minReadySeconds", "revisionHistoryLimit", "strategy")
    return {name: target["spec"][name] for name in names if name in target["spec"]}


def _primary_template(target: Mapping[str, Any], app: str) -> dict[str, Any]:
    """The target's pods under the primary's label, with an id that makes every promotion a rollout."""
    template: dict[str, Any] = deepcopy(target["spec"]["template"])
    meta = template["metadata"]
    meta["labels"] = {**meta.get("labels", {}), "app": app}
    meta["annotations"] = {**meta.get("annotations", {}), "flagger-id": str(uuid.uuid4())}
    return template


@dataclass
class ArgoRouter:
    """Argo Rollouts' SMI traffic router (rollout/trafficrouting/smi/smi.go): create once, then patch."""

    api: Api
    version: str
    rollout: Mapping[str, Any]

    def set_weight(self, weight: int) -> None:
        """Give the canary `weight` percent. Raises RefusedError for a split that is not the Rollout's."""
        canary = self.rollout["spec"]["strategy"]["canary"]
        smi = canary["trafficRouting"]["smi"]
        name = smi.get("trafficSplitName") or self.rollout["metadata"]["name"]
        backends = [
            {"service": canary["canaryService"], "weight": written_weight(self.version, weight)},
            {"service": canary["stableService"], "weight": written_weight(self.version, 100 - weight)},
        ]
        kind = f"split.smi-spec.io/{self.version}"
        found = self.api.send("GET", self.api.path(kind, "trafficsplits", name))
        if found is None:
            body = {
                "apiVersion": kind,
                "kind": "TrafficSplit",
                "metadata": {
                    "name": name,
                    "namespace": self.api.namespace,
                    "creationTimestamp": None,
                    "ownerReferences": [controller_reference(self.rollout)],
                },
                "spec": {"service": smi.get("rootService") or canary["stableService"], "backends": backends},
            }
            self.api.send("POST", self.api.path(kind, "trafficsplits"), body)
            return
        if controller_reference(self.rollout) not in found["metadata"]["ownerReferences"]:
            raise RefusedError(f"TrafficSplit {name} is not the Rollout's: {found['metadata']}")
        if found["spec"]["backends"] != backends:
            patch = {"spec": {"backends": backends}}
            self.api.send("PATCH", self.api.path(kind, "trafficsplits", name), patch, MERGE)
