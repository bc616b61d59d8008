"""Objects as the rows `kubectl get` prints: meta.k8s.io/v1 Table and PartialObjectMetadata.

Columns of built-in kinds follow upstream's printers; kinds without an entry get name and creation time.
Custom resources bring their own columns as JSON paths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from localmesh.apiserver import podstatus
from localmesh.apiserver.jsonpath import JsonPath
from localmesh.apiserver.jsonvalue import JsonObject, child, lookup
from localmesh.apiserver.registry import Resource

Cells = Callable[[JsonObject], list[Any]]

NAME_HELP = "Name must be unique within a namespace."


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0

    def as_json(self) -> JsonObject:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """The columns of a kind and how to fill them."""

    columns: tuple[Column, ...]
    cells: Cells


def render(
    printer: Printer,
    objects: Sequence[JsonObject],
    list_meta: JsonObject,
    *,
    include: str = "Metadata",
    header: bool = True,
    version: str = "v1",
) -> JsonObject:
    """A Table. `include` is the includeObject query parameter: Metadata, Object or None."""
    rows = []
    for obj in objects:
        row: JsonObject = {"cells": printer.cells(obj)}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial(obj, version)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": list_meta,
        "columnDefinitions": [column.as_json() for column in printer.columns] if header else [],
        "rows": rows,
    }


def partial(obj: JsonObject, version: str = "v1") -> JsonObject:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj["metadata"],
    }


def printer_of(resource: Resource, version: str) -> Printer:
    if resource.is_custom:
        return custom_printer(resource.schema_of(version).columns)
    return _PRINTERS.get(resource.key, _DEFAULT)


def custom_printer(columns: Sequence[JsonObject]) -> Printer:
    """Name, then a CustomResourceDefinition's additionalPrinterColumns (Age when it names none)."""
    shown = list(columns) or [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    paths = [(JsonPath(column["jsonPath"]), column.get("type", "string")) for column in shown]
    definitions = [Column("Name", format="name", description=NAME_HELP)]
    for column in shown:
        fallback = f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
        definitions.append(
            Column(
                column["name"],
                column.get("type", "string"),
                column.get("format", ""),
                column.get("description", fallback),
                column.get("priority", 0),
            )
        )

    def cells(obj: JsonObject) -> list[Any]:
        return [obj["metadata"]["name"], *(_custom_cell(path, kind, obj) for path, kind in paths)]

    return Printer(tuple(definitions), cells)


def _custom_cell(path: JsonPath, kind: str, obj: JsonObject) -> Any:
    values = path.find(obj)
    if not values:
        return None
    value = values[0]
    match kind:
        case "date":
            return age(value) if isinstance(value, str) else None
        case "integer":
            return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "number":
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case _:
            return path.text(obj)


# --- time ------------------------------------------------------------------------------------


def age(timestamp: str | None) -> str:
    """How long ago, in the short form of `kubectl get` (45s, 3m20s, 5h, 12d)."""
    if not timestamp:
        return "<unknown>"
    try:
        moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return "<invalid>"
    return duration((datetime.now(UTC) - moment).total_seconds())


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def duration(seconds: float) -> str:
    total = int(seconds)
    if total < 0:
        return "0s" if total >= -1 else "<invalid>"
    for limit, unit, name, smaller, small_name in (
        (2 * _MINUTE, 1, "s", 0, ""),
        (10 * _MINUTE, _MINUTE, "m", 1, "s"),
        (3 * _HOUR, _MINUTE, "m", 0, ""),
        (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
        (2 * _DAY, _HOUR, "h", 0, ""),
        (8 * _DAY, _DAY, "d", _HOUR, "h"),
        (2 * _YEAR, _DAY, "d", 0, ""),
        (8 * _YEAR, _YEAR, "y", _DAY, "d"),
    ):
        if total < limit:
            whole, rest = divmod(total, unit)
            part = rest // smaller if smaller else 0
            return f"{whole}{name}" + (f"{part}{small_name}" if part else "")
    return f"{total // _YEAR}y"


# --- built-in kinds ----------------------------------------------------------------------------


def _name(obj: JsonObject) -> str:
    return str(obj["metadata"].get("name", ""))


def _age(obj: JsonObject) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _columns(*specs: str) -> tuple[Column, ...]:
    """Column names; a leading `+` means only with `-o wide`, a trailing `#` an integer."""
    found = []
    for spec in specs:
        name = spec.strip("+#")
        kind = "integer" if spec.endswith("#") else "string"
        form = "name" if name == "Name" else ""
        found.append(Column(name, kind, form, "", 1 if spec.startswith("+") else 0))
    return tuple(found)


def _labels(labels: JsonObject | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _selector(obj: JsonObject) -> str:
    return _labels(lookup(obj, "spec", "selector", "matchLabels"))


def _containers(obj: JsonObject) -> list[str]:
    containers = lookup(obj, "spec", "template", "spec", "containers") or []
    names = ",".join(container.get("name", "") for container in containers)
    return [names, ",".join(container.get("image", "") for container in containers)]


def _count(obj: JsonObject, *path: str) -> int:
    return int(lookup(obj, *path) or 0)


def _pod(obj: JsonObject) -> list[Any]:
    summary = podstatus.summarise(obj)
    restarts: Any = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{summary.restarts} ({age(summary.last_restart)} ago)"
    gates = lookup(obj, "spec", "readinessGates") or []
    return [
        _name(obj),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        _age(obj),
        lookup(obj, "status", "podIP") or "<none>",
        lookup(obj, "spec", "nodeName") or "<none>",
        lookup(obj, "status", "nominatedNodeName") or "<none>",
        f"0/{len(gates)}" if gates else "<none>",
    ]


def _deployment(obj: JsonObject) -> list[Any]:
    return [
        _name(obj),
        f"{_count(obj, 'status', 'readyReplicas')}/{_count(obj, 'spec', 'replicas')}",
        _count(obj, "status", "updatedReplicas"),
        _count(obj, "status", "availableReplicas"),
        _age(obj),
        *_containers(obj),
        _selector(obj),
    ]


def _replica_set(obj: JsonObject) -> list[Any]:
    counts = [_count(obj, "spec", "replicas"), _count(obj, "status", "replicas")]
    ready = _count(obj, "status", "readyReplicas")
    return [_name(obj), *counts, ready, _age(obj), *_containers(obj), _selector(obj)]


def _daemon_set(obj: JsonObject) -> list[Any]:
    status = child(obj, "status")
    names = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    nodes = _labels(lookup(obj, "spec", "template", "spec", "nodeSelector"))
    counts = [status.get(name, 0) for name in names]
    return [_name(obj), *counts, nodes, _age(obj), *_containers(obj), _selector(obj)]


def _stateful_set(obj: JsonObject) -> list[Any]:
    ready = f"{_count(obj, 'status', 'readyReplicas')}/{_count(obj, 'spec', 'replicas')}"
    return [_name(obj), ready, _age(obj), *_containers(obj)]


def _job(obj: JsonObject) -> list[Any]:
    conditions = {row.get("type"): row.get("status") for row in lookup(obj, "status", "conditions") or []}
    state = next(
        (kind for kind in ("Complete", "Failed", "Suspended") if conditions.get(kind) == "True"), "Running"
    )
    completions = lookup(obj, "spec", "completions")
    done = _count(obj, "status", "succeeded")
    start, end = lookup(obj, "status", "startTime"), lookup(obj, "status", "completionTime")
    took = ""
    if start:
        began = datetime.fromisoformat(start.replace("Z", "+00:00"))
        until = datetime.fromisoformat(end.replace("Z", "+00:00")) if end else datetime.now(UTC)
        took = duration((until - began).total_seconds())
    parallelism = _count(obj, "spec", "parallelism")
    progress = f"{done}/{completions if completions is not None else 1}"
    if completions is None and parallelism > 1:
        progress += f" of {parallelism}"
    return [_name(obj), state, progress, took, _age(obj), *_containers(obj), _selector(obj)]


def _cron_job(obj: JsonObject) -> list[Any]:
    spec = child(obj, "spec")
    last = lookup(obj, "status", "lastScheduleTime")
    return [
        _name(obj),
        spec.get("schedule"),
        spec.get("timeZone") or "<none>",
        "True" if spec.get("suspend") else "False",
        len(lookup(obj, "status", "active") or []),
        age(last) if last else "<none>",
        _age(obj),
        *_containers(child(spec, "jobTemplate")),
        _labels(lookup(spec, "jobTemplate", "spec", "selector", "matchLabels")),
    ]


def _service_ports(obj: JsonObject) -> str:
    shown = []
    for port in lookup(obj, "spec", "ports") or []:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port')}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or "<none>"


def _external(obj: JsonObject) -> str:
    spec = child(obj, "spec")
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    ingress = lookup(obj, "status", "loadBalancer", "ingress") or []
    addresses = [entry.get("ip") or entry.get("hostname", "") for entry in ingress]
    addresses += spec.get("externalIPs") or []
    if spec.get("type") == "LoadBalancer" and not addresses:
        return "<pending>"
    return ",".join(addresses) or "<none>"


def _service(obj: JsonObject) -> list[Any]:
    spec = child(obj, "spec")
    address = spec.get("clusterIP") or "<none>"
    kind = spec.get("type", "ClusterIP")
    selector = _labels(spec.get("selector"))
    return [_name(obj), kind, address, _external(obj), _service_ports(obj), _age(obj), selector]


def _limited(texts: Sequence[str], most: int = 3) -> str:
    shown = ",".join(texts[:most])
    return f"{shown} + {len(texts) - most} more..." if len(texts) > most else shown or "<none>"


def _endpoints(obj: JsonObject) -> list[Any]:
    found = []
    for subset in obj.get("subsets") or []:
        ports: list[Any] = subset.get("ports") or [None]
        for port in ports:
            suffix = f":{port['port']}" if port else ""
            found += [f"{address['ip']}{suffix}" for address in subset.get("addresses") or []]
    return [_name(obj), _limited(found), _age(obj)]


def _endpoint_slice(obj: JsonObject) -> list[Any]:
    ports = [str(port.get("port", "*")) for port in obj.get("ports") or []]
    addresses = [
        address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []
    ]
    return [_name(obj), obj.get("addressType"), _limited(ports), _limited(addresses), _age(obj)]


def _namespace(obj: JsonObject) -> list[Any]:
    return [_name(obj), lookup(obj, "status", "phase") or "", _age(obj)]


def _node(obj: JsonObject) -> list[Any]:
    conditions = {row.get("type"): row.get("status") for row in lookup(obj, "status", "conditions") or []}
    state = {"True": "Ready"}.get(
        conditions.get("Ready", ""), "NotReady" if "Ready" in conditions else "Unknown"
    )
    if lookup(obj, "spec", "unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = [key[len(prefix) :] for key in obj["metadata"].get("labels") or {} if key.startswith(prefix)]
    info = child(obj, "status", "nodeInfo")
    addresses = {row.get("type"): row.get("address") for row in lookup(obj, "status", "addresses") or []}
    return [
        _name(obj),
        state,
        ",".join(sorted(roles)) or "<none>",
        _age(obj),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", "<none>"),
        addresses.get("ExternalIP", "<none>"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _secret(obj: JsonObject) -> list[Any]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _age(obj)]


def _config_map(obj: JsonObject) -> list[Any]:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj)]


def _service_account(obj: JsonObject) -> list[Any]:
    return [_name(obj), len(obj.get("secrets") or []), _age(obj)]


def _event(obj: JsonObject) -> list[Any]:
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    series = obj.get("series") or {}
    count = series.get("count") or obj.get("count") or obj.get("deprecatedCount") or 1
    last = series.get("lastObservedTime") or last
    seen = age(last)
    if count > 1:
        seen = f"{seen} (x{count} over {age(first)})"
    return [
        seen,
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or "",
        (obj.get("message") or obj.get("note") or "").strip(),
        age(first),
        count,
        _name(obj),
    ]


def _lease(obj: JsonObject) -> list[Any]:
    return [_name(obj), lookup(obj, "spec", "holderIdentity") or "", _age(obj)]


def _targets(spec: JsonObject) -> str:
    """The metrics of an HPA with their targets; what they are now nobody measures here."""
    found = []
    percent = spec.get("targetCPUUtilizationPercentage")
    if percent is not None:
        found.append(f"cpu: <unknown>/{percent}%")
    for metric in spec.get("metrics") or []:
        kind = metric.get("type") or ""
        source = child(metric, kind[:1].lower() + kind[1:])
        target = child(source, "target")
        name = f"{source.get('name')}: " if kind in ("Resource", "ContainerResource") else ""
        if target.get("averageUtilization") is not None:
            wanted = f"{target['averageUtilization']}%"
        elif target.get("averageValue") is not None:
            wanted = target["averageValue"] + (" (avg)" if kind in ("Object", "External") else "")
        else:
            wanted = target.get("value") or "<auto>"
        found.append(f"{name}<unknown>/{wanted}")
    return _limited(found, 2) if found else "<none>"


def _revision(obj: JsonObject) -> list[Any]:
    owners = obj["metadata"].get("ownerReferences") or []
    shown = "<none>"
    for owner in owners:
        if owner.get("controller"):
            group = owner["apiVersion"].rpartition("/")[0]
            shown = f"{'.'.join(filter(None, (owner['kind'].lower(), group)))}/{owner['name']}"
    return [_name(obj), shown, obj.get("revision", 0), _age(obj)]


def _hpa(obj: JsonObject) -> list[Any]:
    spec = child(obj, "spec")
    reference = child(spec, "scaleTargetRef")
    return [
        _name(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        _targets(spec),
        str(spec.get("minReplicas", "<unset>")),
        spec.get("maxReplicas", 0),
        _count(obj, "status", "currentReplicas"),
        _age(obj),
    ]


def _budget(obj: JsonObject) -> list[Any]:
    spec = child(obj, "spec")
    least, most = spec.get("minAvailable", "N/A"), spec.get("maxUnavailable", "N/A")
    return [_name(obj), str(least), str(most), _count(obj, "status", "disruptionsAllowed"), _age(obj)]


def _ingress(obj: JsonObject) -> list[Any]:
    hosts = [rule.get("host") or "*" for rule in lookup(obj, "spec", "rules") or []]
    ports = "80, 443" if lookup(obj, "spec", "tls") else "80"
    class_name = lookup(obj, "spec", "ingressClassName") or "<none>"
    return [_name(obj), class_name, ",".join(hosts) or "*", "", ports, _age(obj)]


def _created(obj: JsonObject) -> list[Any]:
    return [_name(obj), obj["metadata"].get("creationTimestamp")]


def _binding(obj: JsonObject) -> list[Any]:
    reference = child(obj, "roleRef")
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or []:
        prefix = f"{subject['namespace']}/" if subject.get("namespace") else ""
        subjects.setdefault(subject.get("kind", ""), []).append(prefix + subject.get("name", ""))
    shown = [", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [_name(obj), f"{reference.get('kind', '')}/{reference.get('name', '')}", _age(obj), *shown]


def _webhooks(obj: JsonObject) -> list[Any]:
    return [_name(obj), len(obj.get("webhooks") or []), _age(obj)]


def _network_policy(obj: JsonObject) -> list[Any]:
    return [_name(obj), _labels(lookup(obj, "spec", "podSelector", "matchLabels")), _age(obj)]


def _api_service(obj: JsonObject) -> list[Any]:
    service = lookup(obj, "spec", "service")
    shown = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    conditions = {row.get("type"): row for row in lookup(obj, "status", "conditions") or []}
    available = conditions.get("Available", {})
    state = available.get("status", "Unknown")
    if state != "True" and available.get("reason"):
        state = f"{state} ({available['reason']})"
    return [_name(obj), shown, state, _age(obj)]


def _claim(obj: JsonObject) -> list[Any]:
    spec = child(obj, "spec")
    status = child(obj, "status")
    modes = ",".join(status.get("accessModes") or spec.get("accessModes") or [])
    size = lookup(status, "capacity", "storage") or ""
    volume, storage = spec.get("volumeName", ""), spec.get("storageClassName", "")
    return [_name(obj), status.get("phase", ""), volume, size, modes, storage, _age(obj)]


_TEMPLATE = ("+Containers", "+Images", "+Selector")
_BINDING_COLUMNS = _columns("Name", "Role", "Age", "+Users", "+Groups", "+ServiceAccounts")
_CREATED = Column("Created At", "date")
_DEFAULT = Printer((*_columns("Name"), _CREATED), _created)

_EVENT_COLUMNS = _columns(
    "Last Seen",
    "Type",
    "Reason",
    "Object",
    "+Subobject",
    "+Source",
    "Message",
    "+First Seen",
    "+Count#",
    "+Name",
)

_PRINTERS: dict[str, Printer] = {
    "pods": Printer(
        _columns(
            "Name",
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "+IP",
            "+Node",
            "+Nominated Node",
            "+Readiness Gates",
        ),
        _pod,
    ),
    "deployments.apps": Printer(
        _columns("Name", "Ready", "Up-to-date#", "Available#", "Age", *_TEMPLATE), _deployment
    ),
    "replicasets.apps": Printer(
        _columns("Name", "Desired#", "Current#", "Ready#", "Age", *_TEMPLATE), _replica_set
    ),
    "daemonsets.apps": Printer(
        _columns(
            "Name",
            "Desired#",
            "Current#",
            "Ready#",
            "Up-to-date#",
            "Available#",
            "Node Selector",
            "Age",
            *_TEMPLATE,
        ),
        _daemon_set,
    ),
    "statefulsets.apps": Printer(_columns("Name", "Ready", "Age", "+Containers", "+Images"), _stateful_set),
    "jobs.batch": Printer(_columns("Name", "Status", "Completions", "Duration", "Age", *_TEMPLATE), _job),
    "cronjobs.batch": Printer(
        _columns("Name", "Schedule", "Timezone", "Suspend", "Active#", "Last Schedule", "Age", *_TEMPLATE),
        _cron_job,
    ),
    "controllerrevisions.apps": Printer(_columns("Name", "Controller", "Revision#", "Age"), _revision),
    "services": Printer(
        _columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"), _service
    ),
    "endpoints": Printer(_columns("Name", "Endpoints", "Age"), _endpoints),
    "endpointslices.discovery.k8s.io": Printer(
        _columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _endpoint_slice
    ),
    "namespaces": Printer(_columns("Name", "Status", "Age"), _namespace),
    "nodes": Printer(
        _columns(
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ),
        _node,
    ),
    "secrets": Printer(_columns("Name", "Type", "Data#", "Age"), _secret),
    "configmaps": Printer(_columns("Name", "Data#", "Age"), _config_map),
    "serviceaccounts": Printer(_columns("Name", "Secrets#", "Age"), _service_account),
    "events": Printer(_EVENT_COLUMNS, _event),
    "events.events.k8s.io": Printer(_EVENT_COLUMNS, _event),
    "leases.coordination.k8s.io": Printer(_columns("Name", "Holder", "Age"), _lease),
    "horizontalpodautoscalers.autoscaling": Printer(
        _columns("Name", "Reference", "Targets", "MinPods", "MaxPods#", "Replicas#", "Age"), _hpa
    ),
    "poddisruptionbudgets.policy": Printer(
        _columns("Name", "Min Available", "Max Unavailable", "Allowed Disruptions#", "Age"), _budget
    ),
    "ingresses.networking.k8s.io": Printer(
        _columns("Name", "Class", "Hosts", "Address", "Ports", "Age"), _ingress
    ),
    "networkpolicies.networking.k8s.io": Printer(_columns("Name", "Pod-Selector", "Age"), _network_policy),
    "rolebindings.rbac.authorization.k8s.io": Printer(_BINDING_COLUMNS, _binding),
    "clusterrolebindings.rbac.authorization.k8s.io": Printer(_BINDING_COLUMNS, _binding),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": Printer(
        _columns("Name", "Webhooks#", "Age"), _webhooks
    ),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": Printer(
        _columns("Name", "Webhooks#", "Age"), _webhooks
    ),
    "apiservices.apiregistration.k8s.io": Printer(
        _columns("Name", "Service", "Available", "Age"), _api_service
    ),
    "persistentvolumeclaims": Printer(
        _columns("Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "Age"), _claim
    ),
}
