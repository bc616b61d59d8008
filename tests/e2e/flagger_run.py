"""A stand-in for Flagger 1.44: the API calls of a canary run, in Flagger's order, over plain HTTPS.

Order and bodies are those of fluxcd/flagger (pkg/controller/scheduler*.go, webhook.go, finalizer.go and
pkg/router); the workloads are in `flagger_targets`. What Flagger asks Prometheus is a function here,
`analyse`; `tests/e2e/flagger.py` has the queries. Not played: mirroring (SMI has none), alerts, the
leader's lease.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from tests.e2e.flagger_api import MERGE, Api, RefusedError, controller_reference
from tests.e2e.flagger_targets import Target, digest, target_of

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
    """Flagger's phases."""

    NEW = ""
    INITIALIZING = "Initializing"
    INITIALIZED = "Initialized"
    WAITING = "Waiting"
    PROGRESSING = "Progressing"
    WAITING_PROMOTION = "WaitingPromotion"
    PROMOTING = "Promoting"
    FINALISING = "Finalising"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    TERMINATING = "Terminating"


ANALYSED: Final = frozenset({Phase.PROGRESSING, Phase.WAITING_PROMOTION})
UNDER_WAY: Final = ANALYSED | {Phase.PROMOTING, Phase.FINALISING}
FINALIZER: Final = "finalizer.flagger.app"


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


def call_hook(url: str, payload: Mapping[str, Any]) -> bool:
    """POST as Flagger's webhooks do; whether the answer is 202 or less."""
    request = urllib.request.Request(
        url, json.dumps(payload).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return int(answer.status) <= 202
    except urllib.error.HTTPError:
        return False


@dataclass
class FlaggerRun:
    """Flagger's care of one Canary, which has its target's name; `advance` is one tick."""

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
        canary = self._canary()
        if canary["spec"].get("revertOnDeletion") and FINALIZER not in canary["metadata"].get(
            "finalizers", ()
        ):
            canary["metadata"]["finalizers"] = [*canary["metadata"].get("finalizers", ()), FINALIZER]
            self.api.send("PUT", self._path(), canary)
        if self.phase() is Phase.NEW:
            self._set_status(phase=Phase.INITIALIZING)

    def phase(self) -> Phase:
        return _phase(self._canary())

    def advance(self) -> str:
        """One tick; returns what it did or waits for, in a few words."""
        canary = self._canary()
        status, phase = canary.get("status") or {}, _phase(canary)
        target = target_of(self.api, canary)
        router = SplitRouter(self.api, SPLIT_VERSIONS[canary["spec"]["provider"]], self.name, canary)
        self._reconcile_service(canary, f"{self.name}-canary", self.name)
        self._reconcile_service(canary, f"{self.name}-primary", target.primary)
        target.create_primary(canary)
        initial = phase in (Phase.NEW, Phase.INITIALIZING)
        if initial and (waits := target.waits(target.primary)):
            return waits
        target.reconcile_autoscaler(canary, initial=True)
        self._reconcile_service(canary, self.name, target.primary)
        if initial:
            target.scale_to_zero()
        router.reconcile()
        if initial:
            self._sync_status(target, Phase.INITIALIZED, promoted=True)
            return self._tell("Normal", "Initialization done!")
        if phase not in UNDER_WAY and phase is not Phase.WAITING and not _changed(target, status):
            return "no new revision"
        if waits := target.waits(target.primary):
            return waits
        weights = router.routes()
        if phase not in UNDER_WAY:
            return self._begin(canary, target)
        if phase in ANALYSED and _changed(target, status):
            router.set_routes(TOTAL_WEIGHT, 0)
            self._sync_status(target, Phase.PROGRESSING)
            return self._tell("Normal", "New revision detected! Restarting analysis")
        if waits := target.waits(self.name):
            return waits
        if phase in ANALYSED and self._hooks(canary, "rollback", any_of=True):
            return self._roll_back(canary, target, router)
        if phase is Phase.PROMOTING:
            target.reconcile_autoscaler(canary, initial=False)
            return self._shift_to_primary(canary, router, *weights)
        if phase is Phase.FINALISING:
            target.scale_to_zero()
            self._set_status(
                phase=Phase.SUCCEEDED, canaryWeight=0, lastPromotedSpec=status["lastAppliedSpec"]
            )
            self._hooks(canary, "post-rollout", Phase.SUCCEEDED)
            return self._tell("Normal", f"Promotion completed! Scaling down {self.name}")
        return self._analyse(canary, target, router, *weights)

    def finalize(self) -> None:
        """Undo everything because the Canary is being deleted, then let it go."""
        canary = self._canary()
        target = target_of(self.api, canary)
        self._set_status(phase=Phase.TERMINATING)
        target.scale_from_zero()
        if waits := target.waits(self.name):
            raise RefusedError(f"finalizing: {waits}")
        canary = self._canary()
        canary["metadata"]["finalizers"] = [
            one for one in canary["metadata"]["finalizers"] if one != FINALIZER
        ]
        self.api.send("PUT", self._path(), canary)

    # --- from revision to revision ----------------------------------------------------------------------

    def _begin(self, canary: Mapping[str, Any], target: Target) -> str:
        phase = _phase(canary)
        if not self._hooks(canary, "confirm-rollout", phase):
            if phase is Phase.WAITING:
                return "waiting for approval"
            self._set_status(phase=Phase.WAITING)
            return self._tell("Warning", f"Halt {self.name} advancement waiting for approval")
        self._tell("Normal", f"New revision detected! Scaling up {self.name}")
        target.scale_from_zero()
        self._sync_status(target, Phase.PROGRESSING)
        return "scaled up"

    def _analyse(
        self, canary: Mapping[str, Any], target: Target, router: SplitRouter, primary: int, weight: int
    ) -> str:
        analysis, status = canary["spec"]["analysis"], canary["status"]
        failed, iterations = status.get("failedChecks", 0), status.get("iterations", 0)
        if failed >= analysis["threshold"]:
            return self._roll_back(canary, target, router)
        if weight == 0 and iterations == 0:
            fine = self._hooks(canary, "pre-rollout")
        else:
            fine = self._hooks(canary, "rollout") and self.analyse(weight)
        if not fine:
            self._set_status(failedChecks=failed + 1)
            return self._tell("Warning", f"Halt {self.name} advancement")
        if analysis.get("iterations"):
            return self._iterate(canary, target, router, iterations)
        step = analysis["stepWeight"]
        if not self._hooks(canary, "confirm-traffic-increase"):
            return self._tell(
                "Warning", f"Halt {self.name} advancement waiting for traffic increase approval"
            )
        if weight < analysis["maxWeight"]:
            raised = min(weight + step, TOTAL_WEIGHT)
            router.set_routes(max(primary - step, 0), raised)
            self._set_status(canaryWeight=raised)
            return self._tell("Normal", f"Advance {self.name} canary weight {raised}")
        return self._promote(canary, target)

    def _iterate(self, canary: Mapping[str, Any], target: Target, router: SplitRouter, done: int) -> str:
        """A/B (with a match, which SMI routers do not write) and blue/green: so many checks, all at once."""
        analysis = canary["spec"]["analysis"]
        wanted, blue_green = analysis["iterations"], not analysis.get("match")
        if done < wanted:
            if not blue_green:
                router.set_routes(0, TOTAL_WEIGHT)
            self._set_status(iterations=done + 1)
            return self._tell("Normal", f"Advance {self.name} canary iteration {done + 1}/{wanted}")
        if blue_green and done == wanted:
            if waits := self._confirm_promotion(canary):
                return waits
            router.set_routes(0, TOTAL_WEIGHT)
            self._set_status(iterations=done + 1)
            return self._tell("Normal", "Routing all traffic to canary")
        return self._promote(canary, target)

    def _confirm_promotion(self, canary: Mapping[str, Any]) -> str:
        if self._hooks(canary, "confirm-promotion"):
            return ""
        if _phase(canary) is Phase.WAITING_PROMOTION:
            return "waiting for promotion approval"
        self._set_status(phase=Phase.WAITING_PROMOTION)
        return self._tell("Warning", f"Halt {self.name} advancement waiting for promotion approval")

    def _promote(self, canary: Mapping[str, Any], target: Target) -> str:
        if waits := self._confirm_promotion(canary):
            return waits
        self._tell("Normal", f"Copying {self.name} template spec to {target.primary}")
        target.promote(canary)
        self._set_status(phase=Phase.PROMOTING)
        return f"Copying {self.name}"

    def _shift_to_primary(
        self, canary: Mapping[str, Any], router: SplitRouter, primary: int, weight: int
    ) -> str:
        step = canary["spec"]["analysis"].get("stepWeightPromotion", TOTAL_WEIGHT)
        primary, weight = min(primary + step, TOTAL_WEIGHT), max(weight - step, 0)
        router.set_routes(primary, weight)
        if primary == TOTAL_WEIGHT:
            self._set_status(phase=Phase.FINALISING)
            return self._tell("Normal", "Routing all traffic to primary")
        self._set_status(canaryWeight=weight)
        return self._tell("Normal", f"Advance {self.name} primary weight {primary}")

    def _roll_back(self, canary: Mapping[str, Any], target: Target, router: SplitRouter) -> str:
        router.set_routes(TOTAL_WEIGHT, 0)
        target.scale_to_zero()
        self._sync_status(target, Phase.FAILED)
        self._hooks(canary, "post-rollout", Phase.FAILED)
        return self._tell("Warning", f"Canary failed! Scaling down {self.name}")

    def _hooks(
        self,
        canary: Mapping[str, Any],
        kind: str,
        phase: Phase = Phase.PROGRESSING,
        *,
        any_of: bool = False,
    ) -> bool:
        """Call the webhooks of one kind until one says no (or, `any_of`, one says yes)."""
        status = canary.get("status") or {}
        for hook in canary["spec"]["analysis"].get("webhooks", ()):
            if hook.get("type", "rollout") != kind:
                continue
            payload = {
                "name": self.name,
                "namespace": self.api.namespace,
                "phase": phase,
                "checksum": digest([status.get("trackedConfigs"), status.get("lastAppliedSpec")]),
                "metadata": hook.get("metadata"),
            }
            if call_hook(hook["url"], payload) is any_of:
                return any_of
        return not any_of

    # --- objects ------------------------------------------------------------------------------------------

    def _path(self) -> str:
        return self.api.path("flagger.app/v1beta1", "canaries", self.name)

    def _canary(self) -> Any:
        return self.api.required(self._path())

    def _sync_status(self, target: Target, phase: Phase, *, promoted: bool = False) -> None:
        """Begin anew with the target as it is now."""
        revision = target.revision()
        changes: dict[str, Any] = {"lastPromotedSpec": revision} if promoted else {}
        self._set_status(
            phase=phase,
            lastAppliedSpec=revision,
            trackedConfigs=target.configs(),
            canaryWeight=0,
            failedChecks=0,
            iterations=0,
            **changes,
        )

    def _set_status(self, **changes: Any) -> None:
        """PUT of the status subresource."""
        found = self._canary()
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found["status"] = {**(found.get("status") or {}), **changes, "lastTransitionTime": stamp}
        kept = self.api.send("PUT", f"{self._path()}/status", found)["status"]
        if kept != found["status"]:
            raise RefusedError(f"status of {self.name}: wrote {found['status']}, kept {kept}")

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


def _changed(target: Target, status: Mapping[str, Any]) -> bool:
    """A template that is neither the one analysed last nor the one that serves, or other configuration."""
    known = (status.get("lastAppliedSpec"), status.get("lastPromotedSpec"))
    return target.revision() not in known or target.configs() != (status.get("trackedConfigs") or {})


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
