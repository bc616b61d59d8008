"""Defaults applied once, when an object is written; stored objects are complete and stay stable.

Values as seen on kube-apiserver (kubernetes-api.md §3). Functions complete their argument in place; input has
already the right JSON types, because `types.conform` ran before.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from localmesh.apiserver import remotes
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.metadata import now_text

Default = Callable[[JsonObject], None]


def fill(into: JsonObject, **values: Any) -> None:
    for key, value in values.items():
        into.setdefault(key, value)


def objects(holder: JsonObject, key: str) -> list[JsonObject]:
    """The list of objects under `key`, empty when absent."""
    return holder.get(key) or []


# --- pods --------------------------------------------------------------------------------------


def pod_spec(spec: JsonObject) -> None:
    fill(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        securityContext={},
    )
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for key in ("initContainers", "containers"):
        for one in objects(spec, key):
            container(one)
    for volume in objects(spec, "volumes"):
        _volume(volume)


def container(one: JsonObject) -> None:
    fill(
        one,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy=_pull_policy(one.get("image") or ""),
    )
    for port in objects(one, "ports"):
        fill(port, protocol="TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if one.get(probe) is not None:
            _probe(one[probe])
    for hook in ("postStart", "preStop"):
        handler = (one.get("lifecycle") or {}).get(hook)
        if handler:
            _http_get(handler)
    for variable in objects(one, "env"):
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            fill(reference, apiVersion="v1")
    limits = one["resources"].get("limits") or {}
    if limits:
        requests = one["resources"].setdefault("requests", {})
        for name, value in limits.items():
            requests.setdefault(name, value)


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if name.endswith(":latest") or ":" not in name else "IfNotPresent"


def _probe(probe: JsonObject) -> None:
    fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    _http_get(probe)
    if probe.get("grpc") is not None:
        fill(probe["grpc"], service="")


def _http_get(handler: JsonObject) -> None:
    if handler.get("httpGet") is not None:
        fill(handler["httpGet"], path="/", scheme="HTTP")


def _volume(volume: JsonObject) -> None:
    sources = [key for key in volume if key != "name"]
    if not sources:
        volume["emptyDir"] = {}
    for key in ("configMap", "secret", "downwardAPI", "projected"):
        if volume.get(key) is not None:
            fill(volume[key], defaultMode=420)
    if volume.get("hostPath") is not None:
        fill(volume["hostPath"], type="")
    items = objects(volume.get("downwardAPI") or {}, "items")
    for source in objects(volume.get("projected") or {}, "sources"):
        items = items + objects(source.get("downwardAPI") or {}, "items")
        if source.get("serviceAccountToken") is not None:
            fill(source["serviceAccountToken"], expirationSeconds=3600)
    for item in items:
        if item.get("fieldRef") is not None:
            fill(item["fieldRef"], apiVersion="v1")


def _pod(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    fill(spec, enableServiceLinks=True, serviceAccountName="default", serviceAccount="default")


def _template(spec: JsonObject) -> None:
    template = spec.setdefault("template", {})
    fill(template, metadata={})
    if template.get("spec") is not None:
        pod_spec(template["spec"])


# --- workloads -----------------------------------------------------------------------------------


def _deployment(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = spec["strategy"]
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy, rollingUpdate={})
        fill(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def _replica_set(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(spec, replicas=1)
    _template(spec)


def _replication_controller(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(spec, replicas=1)
    _template(spec)
    labels = spec["template"].get("metadata", {}).get("labels")
    if labels:
        fill(spec, selector=dict(labels))


def _daemon_set(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(spec, revisionHistoryLimit=10, updateStrategy={})
    strategy = spec["updateStrategy"]
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy, rollingUpdate={})
        fill(strategy["rollingUpdate"], maxUnavailable=1, maxSurge=0)
    _template(spec)


def _stateful_set(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", updateStrategy={})
    fill(
        spec,
        serviceName="",
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"},
    )
    strategy = spec["updateStrategy"]
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy, rollingUpdate={})
        fill(strategy["rollingUpdate"], partition=0)
    _template(spec)


def _job_spec(spec: JsonObject) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        fill(spec, completions=1)
    fill(
        spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False, manualSelector=False
    )
    fill(spec, podReplacementPolicy="TerminatingOrFailed")
    _template(spec)


def _job(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    _job_spec(spec)
    if spec.get("selector"):
        return
    uid, name = obj["metadata"].get("uid"), obj["metadata"].get("name")
    if uid and name:
        labels = spec["template"]["metadata"].setdefault("labels", {})
        both = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        for key, value in both.items():
            labels.setdefault(key, value)
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def _cron_job(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(
        spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1
    )
    template = spec.setdefault("jobTemplate", {})
    fill(template, metadata={}, spec={})
    _template(template["spec"])


def _autoscaler(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(spec, minReplicas=1)
    if not spec.get("metrics") and obj.get("apiVersion") == "autoscaling/v2":
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if obj.get("apiVersion") == "autoscaling/v1":
        fill(spec, targetCPUUtilizationPercentage=80)
    behavior = spec.get("behavior")
    if behavior is not None:
        percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
        pods = {"type": "Pods", "value": 4, "periodSeconds": 15}
        for key, policies in (("scaleUp", [pods, percent]), ("scaleDown", [percent])):
            fill(behavior, **{key: {}})
            fill(behavior[key], selectPolicy="Max")
            if not behavior[key].get("policies"):
                behavior[key]["policies"] = policies
        fill(behavior["scaleUp"], stabilizationWindowSeconds=0)


# --- services and the rest -----------------------------------------------------------------------


def _service(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    fill(spec, type="ClusterIP", sessionAffinity="None")
    if spec["type"] != "ExternalName":
        fill(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        fill(spec, allocateLoadBalancerNodePorts=True)
    if spec["sessionAffinity"] == "ClientIP":
        fill(spec, sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10800}})
    for port in objects(spec, "ports"):
        fill(port, protocol="TCP")
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port")
    obj.setdefault("status", {"loadBalancer": {}})


def _secret(obj: JsonObject) -> None:
    fill(obj, type="Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(value.encode()).decode()


def _endpoints(obj: JsonObject) -> None:
    for subset in objects(obj, "subsets"):
        for port in objects(subset, "ports"):
            fill(port, protocol="TCP")


def _endpoint_slice(obj: JsonObject) -> None:
    for port in objects(obj, "ports"):
        fill(port, name="", protocol="TCP")


def _binding(obj: JsonObject) -> None:
    fill(obj.get("roleRef") or {}, apiGroup="rbac.authorization.k8s.io")
    for subject in objects(obj, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            fill(subject, apiGroup="rbac.authorization.k8s.io")


def _webhooks(obj: JsonObject) -> None:
    for hook in objects(obj, "webhooks"):
        fill(hook, failurePolicy="Fail", matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
        fill(hook, timeoutSeconds=10)
        if obj.get("kind") == "MutatingWebhookConfiguration":
            fill(hook, reinvocationPolicy="Never")
        for rule in objects(hook, "rules"):
            fill(rule, scope="*")
        service = (hook.get("clientConfig") or {}).get("service")
        if service is not None:
            fill(service, port=443)


def _network_policy(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for key in ("ingress", "egress"):
        for rule in objects(spec, key):
            for port in objects(rule, "ports"):
                fill(port, protocol="TCP")


def _event(obj: JsonObject) -> None:
    if obj.get("apiVersion") != "v1":
        return
    fill(obj, source={}, reportingComponent="", reportingInstance="")


def _crd(obj: JsonObject) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        fill(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    fill(spec, conversion={"strategy": "None"})
    config = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if config is not None:
        fill(config, port=443)


def _lease(obj: JsonObject) -> None:
    obj.setdefault("spec", {})


def _storage_class(obj: JsonObject) -> None:
    fill(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _claim(obj: JsonObject) -> None:
    fill(obj.setdefault("spec", {}), volumeMode="Filesystem")
    obj.setdefault("status", {"phase": "Pending"})


DEFAULTS: Mapping[str, Default] = {
    "pods": _pod,
    "podtemplates": _template,
    "replicationcontrollers": _replication_controller,
    "services": _service,
    "secrets": _secret,
    "endpoints": _endpoints,
    "events": _event,
    "persistentvolumeclaims": _claim,
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "daemonsets.apps": _daemon_set,
    "statefulsets.apps": _stateful_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "customresourcedefinitions.apiextensions.k8s.io": _crd,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "leases.coordination.k8s.io": _lease,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "networkpolicies.networking.k8s.io": _network_policy,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "storageclasses.storage.k8s.io": _storage_class,
    remotes.KEY: remotes.fill,
}


def _pod_status(obj: JsonObject) -> None:
    obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}


def _namespace_start(obj: JsonObject) -> None:
    name = obj["metadata"].get("name")
    if name:
        labels = obj["metadata"].get("labels") or {}
        obj["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": name}
    obj["spec"] = {"finalizers": ["kubernetes"]}
    obj["status"] = {"phase": "Active"}


def _empty_status(obj: JsonObject) -> None:
    obj["status"] = {}


def _load_balancer_status(obj: JsonObject) -> None:
    obj["status"] = {"loadBalancer": {}}


def qos_class(spec: JsonObject) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' resources."""
    containers = objects(spec, "containers") + objects(spec, "initContainers")
    resources = [one.get("resources") or {} for one in containers]
    if not any(one.get("requests") or one.get("limits") for one in resources):
        return "BestEffort"
    full = all(
        {"cpu", "memory"} <= set(one.get("limits") or {}) and (one.get("requests") or {}) == one["limits"]
        for one in resources
    )
    return "Guaranteed" if full else "Burstable"


INITIAL_STATUS: Mapping[str, Default] = {
    "pods": _pod_status,
    "namespaces": _namespace_start,
    "services": _load_balancer_status,
    "ingresses.networking.k8s.io": _load_balancer_status,
    "persistentvolumeclaims": lambda obj: obj.__setitem__("status", {"phase": "Pending"}),
    **dict.fromkeys(
        (
            "deployments.apps",
            "daemonsets.apps",
            "jobs.batch",
            "cronjobs.batch",
            "nodes",
            remotes.KEY,
        ),
        _empty_status,
    ),
    "replicasets.apps": lambda obj: obj.__setitem__("status", {"replicas": 0}),
    "statefulsets.apps": lambda obj: obj.__setitem__("status", {"replicas": 0, "availableReplicas": 0}),
    "replicationcontrollers": lambda obj: obj.__setitem__("status", {"replicas": 0}),
    "horizontalpodautoscalers.autoscaling": lambda obj: obj.__setitem__(
        "status", {"currentReplicas": 0, "desiredReplicas": 0}
    ),
}
"""What a new object's status is; whatever the client sent is dropped."""


def stamp_event(obj: JsonObject) -> None:
    """Events without any time get the present one, so that they sort."""
    if not (obj.get("eventTime") or obj.get("lastTimestamp") or obj.get("firstTimestamp")):
        obj["firstTimestamp"] = obj["lastTimestamp"] = now_text()
