"""What makes a built-in object invalid: names, required fields, references between fields, immutability.

Not upstream's whole validation: what users get wrong by hand, worded as upstream words it. Functions return
causes and change nothing. `old` is None on create.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from localmesh.apiserver import remotes, selectors
from localmesh.apiserver.errors import Cause, forbidden_field, invalid_value, not_supported, required
from localmesh.apiserver.jsonvalue import JsonObject, child, dumps, lookup
from localmesh.apiserver.metadata import LABEL_RULE, validate_labels
from localmesh.apiserver.types import table
from localmesh.schedules import Schedule, ScheduleError, ZoneError

Validator = Callable[[JsonObject, JsonObject | None], list[Cause]]

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ENV_NAME = re.compile(r"[^=\x00-\x1f]+")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_MAX_DATA = 1024 * 1024


def shown(value: Any) -> str:
    return dumps(value).decode()


# --- generic: required fields of the type table -----------------------------------------------------


def missing_fields(obj: JsonObject, type_name: str) -> list[Cause]:
    """Fields the type requires and the object lacks, below spec and beside it;
    status and metadata are exempt.
    """
    causes: list[Cause] = []
    _walk(obj, type_name, "", causes)
    return causes


_OPTIONAL_HERE = frozenset({"metadata", "status"})
_EMPTY_ALLOWED = frozenset(
    {"V1EndpointSlice.endpoints", "V1PolicyRule.verbs", "CoreV1Event.involvedObject", "V1Volume.name"}
)


def _walk(value: JsonObject, type_name: str, path: str, causes: list[Cause]) -> None:
    for name, field in table().types.get(type_name, {}).items():
        if not path and name in _OPTIONAL_HERE:
            continue
        where = f"{path}.{name}" if path else name
        present = value.get(name)
        if present is None:
            if field.required and f"{type_name}.{name}" not in _EMPTY_ALLOWED:
                causes.append(required(where))
            continue
        inner = field.type
        if inner.startswith("[]") and inner[2:] in table().types:
            for position, item in enumerate(present):
                _walk(item, inner[2:], f"{where}[{position}]", causes)
        elif inner in table().types:
            _walk(present, inner, where, causes)


# --- pods ------------------------------------------------------------------------------------------


def _pod(obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    if old is not None:
        return _pod_update(obj, old)
    return pod_spec(child(obj, "spec"), "spec")


_POD_MUTABLE = (
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "tolerations",
    "nodeName",
    "schedulingGates",
)


def _pod_update(obj: JsonObject, old: JsonObject) -> list[Cause]:
    def fixed(spec: JsonObject) -> JsonObject:
        rest = {key: value for key, value in spec.items() if key not in _POD_MUTABLE}
        for key in ("containers", "initContainers"):
            rest[key] = [{**one, "image": ""} for one in spec.get(key) or []]
        return rest

    before, after = child(old, "spec"), child(obj, "spec")
    causes = []
    if before.get("nodeName") and before["nodeName"] != after.get("nodeName"):
        causes.append(forbidden_field("spec.nodeName", "a pod stays on its node"))
    if fixed(before) != fixed(after):
        message = (
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions "
            "to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it "
            "was previously negative)"
        )
        causes.append(forbidden_field("spec", message))
    return causes


def pod_spec(spec: JsonObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not spec.get("containers"):
        causes.append(required(f"{path}.containers"))
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        supported = ("Always", "OnFailure", "Never")
        causes.append(not_supported(f"{path}.restartPolicy", shown(spec.get("restartPolicy")), supported))
    volumes: set[str] = set()
    for position, volume in enumerate(spec.get("volumes") or []):
        where = f"{path}.volumes[{position}]"
        name = volume.get("name") or ""
        if not _DNS_LABEL.fullmatch(name):
            causes.append(_bad_label(f"{where}.name", name))
        if name in volumes:
            causes.append(Cause("FieldValueDuplicate", f"{where}.name", f"Duplicate value: {shown(name)}"))
        if len([key for key in volume if key != "name"]) > 1:
            causes.append(forbidden_field(where, "may not specify more than 1 volume type"))
        volumes.add(name)
    names: set[str] = set()
    for key in ("containers", "initContainers"):
        for position, container in enumerate(spec.get(key) or []):
            causes += _container(container, f"{path}.{key}[{position}]", names, volumes)
    return causes


def _bad_label(field: str, value: str) -> Cause:
    return invalid_value(field, shown(value), LABEL_RULE) if value else required(field)


def _container(container: JsonObject, path: str, names: set[str], volumes: set[str]) -> list[Cause]:
    causes = []
    name = container.get("name") or ""
    if not _DNS_LABEL.fullmatch(name) or len(name) > 63:
        causes.append(_bad_label(f"{path}.name", name))
    elif name in names:
        causes.append(Cause("FieldValueDuplicate", f"{path}.name", f"Duplicate value: {shown(name)}"))
    names.add(name)
    if not container.get("image"):
        causes.append(required(f"{path}.image"))
    port_names: set[str] = set()
    for position, port in enumerate(container.get("ports") or []):
        where = f"{path}.ports[{position}]"
        causes += port_number(port.get("containerPort"), f"{where}.containerPort")
        if port.get("protocol") not in _PROTOCOLS:
            causes.append(not_supported(f"{where}.protocol", shown(port.get("protocol")), _PROTOCOLS))
        if port.get("name"):
            if port["name"] in port_names:
                message = f"Duplicate value: {shown(port['name'])}"
                causes.append(Cause("FieldValueDuplicate", f"{where}.name", message))
            port_names.add(port["name"])
    for position, variable in enumerate(container.get("env") or []):
        if not _ENV_NAME.fullmatch(variable.get("name") or ""):
            where = f"{path}.env[{position}].name"
            causes.append(
                invalid_value(where, shown(variable.get("name")), "must not be empty nor contain '='")
            )
    for position, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") not in volumes:
            where = f"{path}.volumeMounts[{position}].name"
            causes.append(Cause("FieldValueNotFound", where, f"Not found: {shown(mount.get('name'))}"))
    return causes


def port_number(value: Any, field: str) -> list[Cause]:
    if value is None:
        return [required(field)]
    if not isinstance(value, int) or not 1 <= value <= 65535:
        return [invalid_value(field, shown(value), "must be between 1 and 65535, inclusive")]
    return []


# --- workloads -------------------------------------------------------------------------------------


def _workload(obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = child(obj, "spec")
    causes = _count(spec.get("replicas"), "spec.replicas")
    selector, labels = spec.get("selector"), lookup(spec, "template", "metadata", "labels") or {}
    if not selector:
        causes.append(required("spec.selector"))
    elif not (selector.get("matchLabels") or selector.get("matchExpressions")):
        message = "empty selector is invalid for deployment"
        causes.append(invalid_value("spec.selector", shown(selector), message))
    elif not selectors.from_json(selector).matches(labels):
        message = "`selector` does not match template `labels`"
        causes.append(invalid_value("spec.template.metadata.labels", shown(labels), message))
    causes += validate_labels(labels, "spec.template.labels")
    causes += pod_spec(lookup(spec, "template", "spec") or {}, "spec.template.spec")
    policy = lookup(spec, "template", "spec", "restartPolicy")
    if policy in ("OnFailure", "Never"):
        causes.append(not_supported("spec.template.spec.restartPolicy", shown(policy), ("Always",)))
    if old is not None and selector != lookup(old, "spec", "selector"):
        causes.append(invalid_value("spec.selector", shown(selector), "field is immutable"))
    return causes


def _stateful_set(obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    causes = _workload(obj, old)
    if lookup(obj, "spec", "volumeClaimTemplates"):
        message = "localmesh provisions no volumes; use emptyDir or hostPath"
        causes.append(forbidden_field("spec.volumeClaimTemplates", message))
    return causes


def _count(value: Any, field: str) -> list[Cause]:
    if isinstance(value, int) and value < 0:
        return [invalid_value(field, shown(value), "must be greater than or equal to 0")]
    return []


def _job(obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = child(obj, "spec")
    if old is not None:
        if child(old, "spec").get("template") != spec.get("template"):
            return [invalid_value("spec.template", "{}", "field is immutable")]
        return []
    causes = _count(spec.get("parallelism"), "spec.parallelism") + _count(
        spec.get("completions"), "spec.completions"
    )
    return causes + _job_spec(spec, "spec")


def _job_spec(spec: JsonObject, field: str) -> list[Cause]:
    """What a Job and a CronJob's template have in common."""
    causes = [
        forbidden_field(f"{field}.{name}", "localmesh does not implement it")
        for name in _JOB_FIELDS_REFUSED
        if spec.get(name) is not None
    ]
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        causes.append(required(f"{field}.completions"))
    template = lookup(spec, "template", "spec") or {}
    policy = template.get("restartPolicy")
    if policy == "Always":  # also when nothing was given: it is the default of pods
        place = f"{field}.template.spec.restartPolicy"
        causes.append(not_supported(place, shown(policy), ("OnFailure", "Never")))
    return causes + pod_spec(template, f"{field}.template.spec")


_JOB_FIELDS_REFUSED = ("backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy", "successPolicy")


def _cron_job(obj: JsonObject, _old: JsonObject | None) -> list[Cause]:
    spec = child(obj, "spec")
    causes: list[Cause] = []
    text, zone = spec.get("schedule") or "", spec.get("timeZone") or ""
    try:
        Schedule(text, zone)
    except ZoneError as error:
        causes.append(invalid_value("spec.timeZone", shown(zone), str(error)))
    except ScheduleError as error:
        causes.append(invalid_value("spec.schedule", shown(text), str(error)))
    policies = ("Allow", "Forbid", "Replace")
    if spec.get("concurrencyPolicy") not in policies:
        causes.append(not_supported("spec.concurrencyPolicy", shown(spec.get("concurrencyPolicy")), policies))
    if len(obj["metadata"].get("name") or "") > _CRON_NAME_MAX:
        message = f"must be no more than {_CRON_NAME_MAX} characters"
        causes.append(invalid_value("metadata.name", shown(obj["metadata"]["name"]), message))
    return causes + _job_spec(child(spec, "jobTemplate", "spec"), "spec.jobTemplate.spec")


_CRON_NAME_MAX = 52
"""A Job's name is eleven characters longer."""


# --- services and configuration -----------------------------------------------------------------------

_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def _service(obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = child(obj, "spec")
    causes: list[Cause] = []
    kind = spec.get("type")
    if kind not in _SERVICE_TYPES:
        causes.append(not_supported("spec.type", shown(kind), _SERVICE_TYPES))
    ports = spec.get("ports") or []
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    if kind == "ExternalName" and not spec.get("externalName"):
        causes.append(required("spec.externalName"))
    causes += _service_ports(ports)
    causes += validate_labels(spec.get("selector"), "spec.selector")
    before = lookup(old, "spec", "clusterIP") if old is not None else None
    same_type = old is not None and lookup(old, "spec", "type") == kind
    if before and same_type and spec.get("clusterIP") != before:
        message = "may not change once set"
        causes.append(invalid_value("spec.clusterIPs[0]", shown(spec.get("clusterIP")), message))
    return causes


def _service_ports(ports: list[JsonObject]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    for position, port in enumerate(ports):
        where = f"spec.ports[{position}]"
        causes += port_number(port.get("port"), f"{where}.port")
        if port.get("protocol") not in _PROTOCOLS:
            causes.append(not_supported(f"{where}.protocol", shown(port.get("protocol")), _PROTOCOLS))
        name = port.get("name") or ""
        if len(ports) > 1 and not name:
            causes.append(required(f"{where}.name"))
        elif name and not _DNS_LABEL.fullmatch(name):
            causes.append(invalid_value(f"{where}.name", shown(name), LABEL_RULE))
        elif name in names:
            causes.append(Cause("FieldValueDuplicate", f"{where}.name", f"Duplicate value: {shown(name)}"))
        pair = (port.get("port"), port.get("protocol"))
        if pair in numbers:
            causes.append(Cause("FieldValueDuplicate", where, f"Duplicate value: {shown(port)}"))
        names.add(name)
        numbers.add(pair)
    return causes


def _data(obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    causes: list[Cause] = []
    size = 0
    for part in ("data", "binaryData"):
        for key, value in (obj.get(part) or {}).items():
            size += len(value or "")
            if not _DATA_KEY.fullmatch(key) or len(key) > 253:
                message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                causes.append(invalid_value(f"{part}[{key}]", shown(key), message))
    if size > _MAX_DATA:
        causes.append(Cause("FieldValueTooLong", "data", f"Too long: may not be more than {_MAX_DATA} bytes"))
    if old is not None and old.get("immutable"):
        causes += [
            forbidden_field(part, "field is immutable when `immutable` is set")
            for part in ("data", "binaryData")
            if obj.get(part) != old.get(part)
        ]
    if old is not None and old.get("type") != obj.get("type"):
        causes.append(invalid_value("type", shown(obj.get("type")), "field is immutable"))
    return causes


def _binding(obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    causes = []
    if old is not None and old.get("roleRef") != obj.get("roleRef"):
        causes.append(invalid_value("roleRef", shown(obj.get("roleRef")), "cannot change roleRef"))
    for position, subject in enumerate(obj.get("subjects") or []):
        namespaced = obj.get("kind") == "RoleBinding"
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace") and not namespaced:
            causes.append(required(f"subjects[{position}].namespace"))
    return causes


def _webhooks(obj: JsonObject, _old: JsonObject | None) -> list[Cause]:
    causes: list[Cause] = []
    for position, hook in enumerate(obj.get("webhooks") or []):
        where = f"webhooks[{position}]"
        config = hook.get("clientConfig") or {}
        if bool(config.get("url")) == bool(config.get("service")):
            causes.append(required(f"{where}.clientConfig", "exactly one of url or service is required"))
        if hook.get("name", "").count(".") < 2:
            message = "should be a domain with at least three segments separated by dots"
            causes.append(invalid_value(f"{where}.name", shown(hook.get("name")), message))
        if hook.get("failurePolicy") not in ("Fail", "Ignore"):
            value = shown(hook.get("failurePolicy"))
            causes.append(not_supported(f"{where}.failurePolicy", value, ("Fail", "Ignore")))
        if not 1 <= hook.get("timeoutSeconds", 10) <= 30:
            message = "the timeout value must be between 1 and 30 seconds"
            causes.append(invalid_value(f"{where}.timeoutSeconds", shown(hook["timeoutSeconds"]), message))
        if hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            value = shown(hook.get("sideEffects"))
            causes.append(not_supported(f"{where}.sideEffects", value, ("None", "NoneOnDryRun")))
        if "v1" not in (hook.get("admissionReviewVersions") or ()):
            message = "must include v1"
            value = shown(hook.get("admissionReviewVersions"))
            causes.append(invalid_value(f"{where}.admissionReviewVersions", value, message))
    return causes


def _event(obj: JsonObject, _old: JsonObject | None) -> list[Cause]:
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    namespace = obj["metadata"].get("namespace")
    if about.get("namespace") and about["namespace"] != namespace:
        return [
            invalid_value(
                "involvedObject.namespace", shown(about["namespace"]), "does not match event.namespace"
            )
        ]
    return []


def _endpoints(obj: JsonObject, _old: JsonObject | None) -> list[Cause]:
    causes = []
    for number, subset in enumerate(obj.get("subsets") or []):
        for key in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(subset.get(key) or []):
                where = f"subsets[{number}].{key}[{position}].ip"
                # Upstream refuses 127.0.0.0/8 here; in loopback mode pods live there.
                if not _is_ip(address.get("ip")):
                    causes.append(
                        invalid_value(where, shown(address.get("ip")), "must be a valid IP address")
                    )
    return causes


def _is_ip(value: Any) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _budget(obj: JsonObject, _old: JsonObject | None) -> list[Cause]:
    spec = child(obj, "spec")
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        message = "minAvailable and maxUnavailable cannot be both set"
        return [invalid_value("spec", shown(spec), message)]
    return []


def _autoscaler(obj: JsonObject, _old: JsonObject | None) -> list[Cause]:
    spec = child(obj, "spec")
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas")
    if not isinstance(most, int) or most < 1:
        return [invalid_value("spec.maxReplicas", shown(most), "must be greater than 0")]
    if most < least:
        return [
            invalid_value("spec.maxReplicas", shown(most), "must be greater than or equal to `minReplicas`")
        ]
    return []


VALIDATORS: Mapping[str, Validator] = {
    remotes.KEY: remotes.validate,
    "pods": _pod,
    "services": _service,
    "configmaps": _data,
    "secrets": _data,
    "events": _event,
    "events.events.k8s.io": _event,
    "endpoints": _endpoints,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "daemonsets.apps": _workload,
    "statefulsets.apps": _stateful_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "poddisruptionbudgets.policy": _budget,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
}
