"""Pod → JSON patch that gives it a sidecar. Pure; the sidecar contract in one place.

Knows pods as the API server sends them (defaults not necessarily applied) and nothing of HTTP. The
patched pod must stay valid for a real API server and for the pod's own security settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controller.admission.checks import rewrite, wait_withdrawn
from controller.compile.workload import workload_of
from controller.settings import Resources, Settings, Tracing
from smi.names import (
    ACCESS_LOG_ANNOTATION,
    ADMIN_PORT,
    DEFAULT_METRICS,
    EXCLUDE_INBOUND_ANNOTATION,
    EXCLUDE_OUTBOUND_ANNOTATION,
    INJECT_LABEL,
    MAX_WITHDRAW_SECONDS,
    MAX_WORKERS,
    MESHED_LABEL,
    METRICS_ANNOTATION,
    OUTBOUND_PORT,
    PROXY_ID,
    SCRAPE_ANNOTATION,
    SYSTEM_NAMESPACE,
    TOKEN_AUDIENCE,
    TRACE_SAMPLING_ANNOTATION,
    UDP_IDLE_ANNOTATION,
    WITHDRAW_ANNOTATION,
    WORKERS_ANNOTATION,
    Workload,
    access_logging,
    metrics_dialects,
    trace_share,
)

Pod = Mapping[str, Any]
Patch = list[dict[str, Any]]
"""RFC 6902 operations."""

STATUS_ANNOTATION: Final = "smi-mesh.io/status"
INIT_CONTAINER: Final = "smi-mesh-init"
PROXY_CONTAINER: Final = "smi-mesh-proxy"
ADMIN_PORT_NAME: Final = "smi-mesh-admin"
TOKEN_VOLUME: Final = "smi-mesh-token"  # a volume's name
TOKEN_DIRECTORY: Final = "/var/run/secrets/smi-mesh"  # a path
_TOKEN_SECONDS: Final = 3600
_WITHDRAW_SECONDS: Final = 10.0
_MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
_PROXY_VARIABLES: Final = ("HTTP_PROXY", "http_proxy")
_NO_PROXY_VARIABLES: Final = ("NO_PROXY", "no_proxy")
_NO_PROXY: Final = "127.0.0.1,localhost"
_PROMETHEUS: Final = "prometheus.io/"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What every sidecar of this mesh is given."""

    image: str
    pull_policy: str
    controller: str
    trust_domain: str
    cluster_domain: str
    trust_bundle: str = field(repr=False)
    explicit: bool = False
    """True: no redirect; the app is told to use the sidecar as its HTTP proxy."""
    udp: bool = True
    """Intercept UDP too, where there is a redirect. It takes the sidecar a capability at its start."""
    log_level: str = "info"
    metrics: str = DEFAULT_METRICS
    """Dialects of its metrics."""
    workers: str = ""
    """Processes that serve, where the pod does not say it; empty: one. So the next two."""
    access_log: str = ""
    """Empty: none."""
    udp_idle: str = ""
    """Seconds; empty: the sidecar's own default."""
    resources: Resources = Settings().proxy_resources
    tracing: Tracing = Settings().tracing
    """Its sampling is for pods that do not say it."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The pod stays as it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The pod cannot run in the mesh as it is written; the message says what to change."""

    message: str


def inject(pod: Pod, namespace: str, sidecar: Sidecar, secret: str = "") -> Patch | Skipped | Refused:
    """The patch for one pod of `namespace`. Which namespaces join is the webhook registration's matter.

    `secret`: another one for each pod, for those who may call its hooks (`checks`).
    """
    skip = _reason_to_skip(pod, namespace)
    if skip is not None:
        return Skipped(skip)
    try:
        exclude_inbound = _ports(pod, EXCLUDE_INBOUND_ANNOTATION)
        exclude_outbound = _ports(pod, EXCLUDE_OUTBOUND_ANNOTATION)
        udp_idle = _seconds(pod, UDP_IDLE_ANNOTATION) or sidecar.udp_idle
        metrics = _metrics(pod, sidecar.metrics)
        workers = _workers(pod) or sidecar.workers
        access_log = _access_log(pod) or sidecar.access_log
        sampling = _trace_sampling(pod) or sidecar.tracing.sampling
        withdraw = _withdraw(pod)
    except ValueError as error:
        return Refused(str(error))
    conflict = _conflict(pod)
    if conflict is not None:
        return Refused(conflict)
    env = _sidecar_env(sidecar, exclude_inbound, exclude_outbound) + _udp_env(sidecar, udp_idle)
    env += [_variable("SMI_MESH_WORKLOAD", str(_workload(pod))), _variable("SMI_MESH_METRICS", metrics)]
    env += [_variable("SMI_MESH_WORKERS", workers)] * bool(workers)
    env += [_variable("SMI_MESH_ACCESS_LOG", access_log)] * bool(access_log)
    own = env + _tracing_env(sidecar.tracing, sampling)
    own += [_variable("SMI_MESH_WITHDRAW_SECONDS", f"{withdraw:g}")] * bool(withdraw)
    checks: Patch = []
    if not sidecar.explicit:
        excluded = frozenset(int(port) for port in exclude_inbound.split(",") if port)
        rewritten = rewrite(pod["spec"], 2, excluded, secret)
        checks += rewritten.patch
        own += [_variable("SMI_MESH_APP_CHECKS", _literal(rewritten.checks))] * bool(rewritten.checks)
    if withdraw:
        checks += wait_withdrawn(pod["spec"])
    containers = [_proxy(sidecar, own)]
    if not sidecar.explicit:
        containers.insert(0, _redirect(sidecar, env))
    patch = [*_first_in_list(pod["spec"], "/spec", "initContainers", containers)]
    patch += _first_in_list(pod["spec"], "/spec", "volumes", [_token_volume()])
    patch += _entries(pod, "labels", {MESHED_LABEL: "true"})
    patch += _entries(pod, "annotations", {STATUS_ANNOTATION: "injected", **_scrape(pod)})
    if sidecar.explicit:
        patch += _point_apps_at_proxy(pod, before=len(containers))
    return patch + checks


# --- which pods ---------------------------------------------------------------------------------------------


def _reason_to_skip(pod: Pod, namespace: str) -> str | None:
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    if namespace in (SYSTEM_NAMESPACE, "kube-system", "kube-node-lease"):
        return f"namespace {namespace} is never meshed"
    if labels.get(INJECT_LABEL) == "disabled":
        return f"label {INJECT_LABEL} is disabled"
    if _MIRROR_ANNOTATION in annotations:
        return "static pods belong to their node"
    if spec.get("hostNetwork"):
        return "the pod is on its node's network"
    if (spec.get("os") or {}).get("name") == "windows":
        return "the pod runs on Windows"
    if any(container.get("name") == PROXY_CONTAINER for container in _containers(spec)):
        return "the pod has a sidecar"
    return None


def _containers(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("initContainers", "containers"):
        yield from spec.get(name) or ()


def _conflict(pod: Pod) -> str | None:
    """A pod whose processes would pass as the sidecar, or that uses its names."""
    spec = pod["spec"]
    for where, owner in (
        ("the pod", spec),
        *((f"container {one.get('name')}", one) for one in _containers(spec)),
    ):
        group = (owner.get("securityContext") or {}).get("runAsGroup")
        if group == PROXY_ID:
            return f"{where} runs as group {PROXY_ID}, which is the sidecar's; choose another runAsGroup"
    if any(volume.get("name") == TOKEN_VOLUME for volume in spec.get("volumes") or ()):
        return f"volume name {TOKEN_VOLUME} is the sidecar's; choose another"
    return None


def _ports(pod: Pod, annotation: str) -> str:
    """The annotation's ports as a clean comma list; raises ValueError that names it."""
    parts = [part.strip() for part in _annotation(pod, annotation).split(",")]
    for part in parts:
        if part and not (part.isascii() and part.isdigit() and 0 < int(part[:6]) < 65536):
            raise ValueError(f"annotation {annotation}: expected ports from 1 to 65535, got {part[:40]!r}")
    return ",".join(str(int(part)) for part in parts if part)


def _annotation(pod: Pod, name: str) -> str:
    """The annotation's text without space around it, "" without it."""
    return str(((pod.get("metadata") or {}).get("annotations") or {}).get(name) or "").strip()


def _seconds(pod: Pod, annotation: str) -> str:
    """The annotation's whole seconds, "" without it; raises ValueError that names it."""
    text = _annotation(pod, annotation)
    if text and not (text.isascii() and text.isdigit() and 0 < int(text[:5]) <= 3600):
        raise ValueError(f"annotation {annotation}: expected whole seconds from 1 to 3600, got {text[:40]!r}")
    return text


def _withdraw(pod: Pod) -> float:
    """Seconds that an app is kept until callers know that it ends, 0 for none: at most half the grace period.

    Raises ValueError that names the annotation.
    """
    grace = pod["spec"].get("terminationGracePeriodSeconds")
    half = (30 if grace is None else max(int(grace), 0)) / 2
    text = _annotation(pod, WITHDRAW_ANNOTATION)
    if text and not (text.isascii() and text.isdigit() and int(text[:5]) <= MAX_WITHDRAW_SECONDS):
        raise ValueError(
            f"annotation {WITHDRAW_ANNOTATION}: expected whole seconds from 0 to {MAX_WITHDRAW_SECONDS}, "
            f"got {text[:40]!r}"
        )
    return min(float(text) if text else _WITHDRAW_SECONDS, half)


def _literal(value: Mapping[str, Any]) -> str:
    """JSON as a variable's value: Kubernetes would expand `$(NAME)` in it."""
    return json.dumps(value, separators=(",", ":")).replace("$(", "$$(")


def _workers(pod: Pod) -> str:
    """How many processes the pod asks for, "" if it does not; raises ValueError that names the annotation."""
    text = _annotation(pod, WORKERS_ANNOTATION)
    if text and not (text.isascii() and text.isdigit() and 0 < int(text[:4]) <= MAX_WORKERS):
        raise ValueError(
            f"annotation {WORKERS_ANNOTATION}: expected processes from 1 to {MAX_WORKERS}, got {text[:40]!r}"
        )
    return text


def _access_log(pod: Pod) -> str:
    """What the pod wants of its sidecar's requests logged; raises ValueError that names the annotation."""
    text = _annotation(pod, ACCESS_LOG_ANNOTATION)
    try:
        access_logging(text)
    except ValueError as error:
        raise ValueError(f"annotation {ACCESS_LOG_ANNOTATION}: {error}") from None
    return text


def _trace_sampling(pod: Pod) -> str:
    """The share of traces the pod wants to begin, "" if it does not say; raises ValueError that names it."""
    text = _annotation(pod, TRACE_SAMPLING_ANNOTATION)
    try:
        if text:
            trace_share(text)
    except ValueError as error:
        raise ValueError(f"annotation {TRACE_SAMPLING_ANNOTATION}: {error}") from None
    return text


def _metrics(pod: Pod, usual: str) -> str:
    """The dialects the pod asks for; raises ValueError that names the annotation."""
    text = _annotation(pod, METRICS_ANNOTATION)
    try:
        return ",".join(metrics_dialects(text)) or usual
    except ValueError as error:
        raise ValueError(f"annotation {METRICS_ANNOTATION}: {error}") from None


# --- what it is, and who finds it ---------------------------------------------------------------------------


def _workload(pod: Pod) -> Workload:
    metadata = pod.get("metadata") or {}
    owners = metadata.get("ownerReferences") or ()
    manages: Mapping[str, Any] = next((owner for owner in owners if owner.get("controller")), {})
    labels = {str(key): str(value) for key, value in (metadata.get("labels") or {}).items()}
    return workload_of(labels, (str(manages.get("kind") or ""), str(manages.get("name") or "")))


def _scrape(pod: Pod) -> dict[str, str]:
    """How a Prometheus finds the sidecar. A pod that says how its app is scraped keeps saying so."""
    given = (pod.get("metadata") or {}).get("annotations") or {}
    ours = {
        f"{_PROMETHEUS}scrape": "true",
        f"{_PROMETHEUS}port": str(ADMIN_PORT),
        f"{_PROMETHEUS}path": "/metrics",
    }
    if not any(str(key).startswith(_PROMETHEUS) for key in given):
        return ours
    return {} if SCRAPE_ANNOTATION in given else {SCRAPE_ANNOTATION: str(ADMIN_PORT)}


# --- the containers -----------------------------------------------------------------------------------------


def _sidecar_env(sidecar: Sidecar, exclude_inbound: str, exclude_outbound: str) -> list[dict[str, Any]]:
    interception = "explicit" if sidecar.explicit else "iptables"
    return [
        _from_field("POD_NAME", "metadata.name"),
        _from_field("POD_NAMESPACE", "metadata.namespace"),
        _from_field("POD_IP", "status.podIP"),
        _variable("SMI_MESH_CONTROLLER", sidecar.controller),
        _variable("SMI_MESH_TRUST_DOMAIN", sidecar.trust_domain),
        _variable("SMI_MESH_CLUSTER_DOMAIN", sidecar.cluster_domain),
        _variable("SMI_MESH_TRUST_BUNDLE", sidecar.trust_bundle),
        _variable("SMI_MESH_TOKEN_FILE", f"{TOKEN_DIRECTORY}/token"),
        _variable("SMI_MESH_INTERCEPTION", interception),
        _variable("SMI_MESH_EXCLUDE_INBOUND", exclude_inbound),
        _variable("SMI_MESH_EXCLUDE_OUTBOUND", exclude_outbound),
        _variable("SMI_MESH_LOG_LEVEL", sidecar.log_level),
    ]


def _udp_env(sidecar: Sidecar, idle: str) -> list[dict[str, Any]]:
    wanted = [_variable("SMI_MESH_UDP", "on" if _takes_udp(sidecar) else "off")]
    return [*wanted, _variable("SMI_MESH_UDP_IDLE_SECONDS", idle)] if idle else wanted


def _tracing_env(tracing: Tracing, sampling: str) -> list[dict[str, Any]]:
    """Nothing without a collector. What may be secret stays out of the pod: a Secret beside it has it."""
    if not tracing.url or trace_share(sampling) is None:
        return []
    env = [
        _variable("SMI_MESH_TRACING", tracing.url),
        _variable("SMI_MESH_TRACING_PROTOCOL", tracing.protocol),
        _variable("SMI_MESH_TRACE_SAMPLING", sampling),
        _variable("SMI_MESH_TRACE_CONTEXT", tracing.context),
    ]
    if tracing.secret:
        env += [
            _from_secret("SMI_MESH_TRACING_HEADERS", tracing.secret, "headers"),
            _from_secret("SMI_MESH_TRACING_CA", tracing.secret, "ca.crt"),
        ]
    return env


def _takes_udp(sidecar: Sidecar) -> bool:
    return sidecar.udp and not sidecar.explicit


def _proxy_user(sidecar: Sidecar) -> dict[str, Any]:
    """Who the sidecar is. Intercepting UDP takes CAP_NET_RAW, which a process under
    allowPrivilegeEscalation false can only start with, as uid 0. It gives it up, and with it every
    capability, before it reads a byte; the redirect knows it by its group."""
    if _takes_udp(sidecar):
        return {
            "capabilities": {"add": ["NET_RAW"], "drop": ["ALL"]},
            "runAsUser": 0,
            "runAsGroup": PROXY_ID,
            "runAsNonRoot": False,  # the pod's own setting may be true
        }
    return {
        "capabilities": {"drop": ["ALL"]},
        "runAsUser": PROXY_ID,
        "runAsGroup": PROXY_ID,
        "runAsNonRoot": True,
    }


def _variable(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    """A namespace without the Secret goes without: spans are worth no pod that does not start."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}


def _resources(sidecar: Sidecar) -> dict[str, Any]:
    wanted = sidecar.resources
    return {
        "requests": {"cpu": wanted.cpu_request, "memory": wanted.memory_request},
        "limits": {"memory": wanted.memory_limit},
    }


def _redirect(sidecar: Sidecar, env: list[dict[str, Any]]) -> dict[str, Any]:
    """Sets the redirect and ends. The only container that needs more than the restricted profile."""
    return {
        "name": INIT_CONTAINER,
        "image": sidecar.image,
        "imagePullPolicy": sidecar.pull_policy,
        "command": ["python", "-m", "dataplane.intercept"],
        "env": env,
        "resources": _resources(sidecar),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": False,  # iptables takes its lock in /run
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,  # the pod's own setting may be true
        },
    }


def _proxy(sidecar: Sidecar, env: list[dict[str, Any]]) -> dict[str, Any]:
    """A native sidecar (restartPolicy Always): up before the app's init containers, down after the app."""
    probe = {"httpGet": {"path": "/ready", "port": ADMIN_PORT, "scheme": "HTTP"}}
    return {
        "name": PROXY_CONTAINER,
        "image": sidecar.image,
        "imagePullPolicy": sidecar.pull_policy,
        "command": ["python", "-m", "dataplane"],
        "restartPolicy": "Always",
        "env": env,
        "ports": [{"name": ADMIN_PORT_NAME, "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "resources": _resources(sidecar),
        "startupProbe": {**probe, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 120},
        "readinessProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 3},
        "securityContext": {
            **_proxy_user(sidecar),
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True}],
    }


def _token_volume() -> dict[str, Any]:
    token = {"audience": TOKEN_AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
    return {"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}


# --- explicit mode ------------------------------------------------------------------------------------------


def _point_apps_at_proxy(pod: Pod, before: int) -> Iterator[dict[str, Any]]:
    """Tell every container of the app to use the sidecar; what it sets itself stays.

    `before` containers have been put in front of the app's init containers by then.
    """
    for name, offset in (("initContainers", before), ("containers", 0)):
        for index, container in enumerate(pod["spec"].get(name) or ()):
            given = {str(one.get("name")) for one in container.get("env") or ()}
            wanted = [
                # $(POD_IP) only sees variables before it: ours go first, or last if the app has its own.
                _from_field("POD_IP", "status.podIP"),
                *(_variable(one, f"http://$(POD_IP):{OUTBOUND_PORT}") for one in _PROXY_VARIABLES),
                *(_variable(one, _NO_PROXY) for one in _NO_PROXY_VARIABLES),
            ]
            missing = [one for one in wanted if one["name"] not in given]
            path = f"/spec/{name}/{index + offset}"
            if "POD_IP" in given:
                yield from ({"op": "add", "path": f"{path}/env/-", "value": one} for one in missing)
            else:
                yield from _first_in_list(container, path, "env", missing)


# --- JSON patch ---------------------------------------------------------------------------------------------


def _first_in_list(
    owner: Mapping[str, Any], path: str, name: str, items: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Put `items` in front of the list `owner[name]`, which may be missing."""
    if not owner.get(name):
        yield {"op": "add", "path": f"{path}/{name}", "value": items}
        return
    for index, item in enumerate(items):
        yield {"op": "add", "path": f"{path}/{name}/{index}", "value": item}


def _entries(pod: Pod, name: str, entries: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Set labels or annotations."""
    if not (pod.get("metadata") or {}).get(name):
        yield {"op": "add", "path": f"/metadata/{name}", "value": dict(entries)}
        return
    for key, value in entries.items():
        escaped = key.replace("~", "~0").replace("/", "~1")
        yield {"op": "add", "path": f"/metadata/{name}/{escaped}", "value": value}
