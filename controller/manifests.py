"""What has to be in a cluster for the mesh to run: the install manifests.

The Helm chart is made of them (`controller.chart`), so the two cannot drift apart. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.admission.registration import API_SERVICE, WEBHOOKS_NAME
from controller.admission.server import MUTATE_PATH, VALIDATE_PATH
from controller.kinds import WATCHED
from controller.metricsapi.resources import GROUP, RESOURCES, SPLITS
from controller.metricsapi.resources import VERSION as VERSION_OF_METRICS
from controller.settings import CA_SECRET, VERSION, Settings
from smi.names import (
    CONFIG_MAP,
    CONTROLLER_ADMIN_PORT,
    CONTROLLER_NAME,
    DISCOVERY_PORT,
    IDENTITY_PORT,
    INJECT_LABEL,
    SYSTEM_NAMESPACE,
    TRAFFIC_PORT,
    WEBHOOK_PORT,
)

Manifest = dict[str, Any]

_DEFAULTS: Final = Settings()
_SMI_GROUPS: Final = tuple(dict.fromkeys(kind.group for kind in WATCHED if kind.smi))
_SMI_PLURALS: Final = tuple(kind.plural for kind in WATCHED if kind.smi)
_LABELS: Final = {"app.kubernetes.io/name": CONTROLLER_NAME, "app.kubernetes.io/part-of": "smi-mesh"}
_SELECTOR: Final = {"app.kubernetes.io/name": CONTROLLER_NAME}
_NEVER_MESHED: Final = [SYSTEM_NAMESPACE, "kube-system", "kube-node-lease"]


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """What an installation may choose; every field is text because it ends as an environment variable."""

    controller_image: str = f"smi-mesh/controller:{VERSION}"
    proxy_image: str = _DEFAULTS.proxy_image
    pull_policy: str = "IfNotPresent"
    interception: str = _DEFAULTS.interception.value
    """`iptables` or `explicit`."""
    udp: str = "on"
    """`on`: sidecars intercept UDP too; `off`: it passes them by, and they need no capability."""
    controller_address: str = _DEFAULTS.controller
    """Host name or address by which sidecars reach the controller."""
    trust_domain: str = _DEFAULTS.trust_domain
    cluster_domain: str = _DEFAULTS.cluster_domain
    leaf_seconds: str = f"{_DEFAULTS.leaf_seconds:g}"
    """Life of a workload certificate."""
    log_level: str = "info"
    proxy_log_level: str = "info"
    metrics: str = _DEFAULTS.metrics
    """Dialects of the sidecars' metrics: any of istio, linkerd, osm, smi, with commas between them."""
    proxy_workers: str = f"{_DEFAULTS.proxy_workers}"
    """Processes of a sidecar that serve."""
    proxy_access_log: str = "off"
    """`json` or `clf`, then perhaps `failures` and a share such as `5%`; or `off`."""
    proxy_udp_idle_seconds: str = f"{_DEFAULTS.proxy_udp_idle_seconds}"
    """After how long without a datagram a UDP flow is forgotten."""
    proxy_cpu_request: str = _DEFAULTS.proxy_resources.cpu_request
    proxy_memory_request: str = _DEFAULTS.proxy_resources.memory_request
    proxy_memory_limit: str = _DEFAULTS.proxy_resources.memory_limit
    """All resources of a sidecar are for its workers together."""
    controller_cpu_request: str = "50m"
    controller_memory_request: str = "128Mi"
    controller_memory_limit: str = "1Gi"
    quiet_seconds: str = f"{_DEFAULTS.quiet_seconds:g}"
    """Configuration is compiled once nothing has changed for so long …"""
    holdoff_seconds: str = f"{_DEFAULTS.holdoff_seconds:g}"
    """… or so long after the first change, whichever is sooner."""
    tracing: str = ""
    """URL of a collector of spans, such as `http://otel-collector.observability:4318`; empty: none."""
    tracing_protocol: str = _DEFAULTS.tracing.protocol
    """`otlp` (over HTTP) or `zipkin` (JSON v2)."""
    trace_sampling: str = _DEFAULTS.tracing.sampling
    """Share of the traces that begin at a sidecar, such as `1%`; `off`: only pods that ask for it."""
    trace_context: str = _DEFAULTS.tracing.context
    """How such a trace is told on: any of w3c, b3, b3-multi, with commas between them."""
    tracing_secret: str = ""
    """A Secret in each pod's namespace: `headers` for the collector, its CA as `ca.crt`; empty: none."""
    prometheus: str = ""
    """URL of a Prometheus that TrafficMetrics are read from; empty: from the sidecars themselves."""
    mode: str = "enforce"
    """Mesh-wide default of S27: `enforce`, `permissive` or `audit`."""
    mtls: str = "strict"
    """Mesh-wide default of S32: `strict` or `permissive`."""
    regex: str = "spec"
    """S16: `spec` or `full`."""
    same_service_account: str = "deny"
    """S28: `deny` or `allow`."""


def render(settings: InstallSettings) -> list[Manifest]:
    """Every object of an installation, in the order to apply them: CRDs first after the namespace."""
    from smi.api.crds import crds  # needs pydantic, which only this function pays for

    return [_namespace(), *crds(), *control_plane(settings)]


def control_plane(settings: InstallSettings) -> list[Manifest]:
    """Everything but the namespace and the CRDs: what a chart's templates hold."""
    return [
        _object("v1", "ServiceAccount", CONTROLLER_NAME),
        _cluster_role(),
        _cluster_role_binding(),
        _role(),
        _role_binding(),
        _front_proxy_reader(),
        _traffic_reader(),
        _traffic_tapper(),
        _config_map(settings),
        _service(),
        _deployment(settings),
        _mutating_webhooks(),
        _validating_webhooks(),
        _api_service(),
    ]


def _object(api_version: str, kind: str, name: str, *, namespaced: bool = True, **rest: Any) -> Manifest:
    metadata: Manifest = {"name": name, "labels": dict(_LABELS)}
    if namespaced:
        metadata["namespace"] = SYSTEM_NAMESPACE
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _namespace() -> Manifest:
    namespace = _object("v1", "Namespace", SYSTEM_NAMESPACE, namespaced=False)
    namespace["metadata"]["labels"][INJECT_LABEL] = "disabled"
    return namespace


# --- permissions --------------------------------------------------------------------------------------------


def _rule(groups: Sequence[str], resources: Sequence[str], verbs: str, names: Sequence[str] = ()) -> Manifest:
    rule: Manifest = {"apiGroups": list(groups), "resources": list(resources), "verbs": verbs.split()}
    if names:
        rule["resourceNames"] = list(names)
    return rule


def _cluster_role() -> Manifest:
    statuses = [f"{plural}/status" for plural in _SMI_PLURALS]
    rules = [
        _rule([""], ["configmaps", "namespaces", "services", "pods"], "get list watch"),
        _rule(["discovery.k8s.io"], ["endpointslices"], "get list watch"),
        _rule(_SMI_GROUPS, _SMI_PLURALS, "get list watch"),
        _rule(_SMI_GROUPS, statuses, "get patch update"),
        _rule([""], ["events"], "create get patch"),
        _rule(["authentication.k8s.io"], ["tokenreviews"], "create"),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], "create"),
        *(_rule([group], plurals, "get list") for group, plurals in _measured().items()),
        _rule(["apiregistration.k8s.io"], ["apiservices"], "get patch", [API_SERVICE]),
        _rule(["apiextensions.k8s.io"], ["customresourcedefinitions"], "get list watch"),
        _rule(
            ["apiextensions.k8s.io"],
            ["customresourcedefinitions"],
            "patch",
            [f"{kind.plural}.{kind.group}" for kind in WATCHED if kind.smi],
        ),
        _rule(
            ["admissionregistration.k8s.io"],
            ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            "get patch",
            [WEBHOOKS_NAME],
        ),
    ]
    name = CONTROLLER_NAME
    return _object("rbac.authorization.k8s.io/v1", "ClusterRole", name, namespaced=False, rules=rules)


def _measured() -> dict[str, list[str]]:
    """Group → plurals of what has TrafficMetrics and is not watched anyway: asked for by name and label."""
    watched = {(kind.group, kind.plural) for kind in WATCHED}
    found: dict[str, list[str]] = {}
    for one in RESOURCES.values():
        if (one.group, one.plural) not in watched:
            found.setdefault(one.group, []).append(one.plural)
    return found


def _traffic_reader() -> Manifest:
    """Lets everybody who may view a namespace view its traffic (aggregated to view, edit and admin)."""
    role = _object(
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        "smi-mesh-traffic-reader",
        namespaced=False,
        rules=[_rule([GROUP], [*RESOURCES, *(f"{plural}/edges" for plural in RESOURCES)], "get list")],
    )
    role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] = "true"
    return role


def _traffic_tapper() -> Manifest:
    """For those who may look at single requests (their paths, not their contents). Bound to nobody."""
    rules = [_rule([GROUP], [f"{plural}/tap" for plural in RESOURCES if plural != SPLITS], "get")]
    name = "smi-mesh-traffic-tapper"
    return _object("rbac.authorization.k8s.io/v1", "ClusterRole", name, namespaced=False, rules=rules)


def _front_proxy_reader() -> Manifest:
    """Lets the controller read how kube-apiserver's aggregator proves itself."""
    parts = _binding_parts("Role")
    parts["roleRef"]["name"] = "extension-apiserver-authentication-reader"
    name = f"{CONTROLLER_NAME}-front-proxy"
    binding = _object("rbac.authorization.k8s.io/v1", "RoleBinding", name, **parts)
    binding["metadata"]["namespace"] = "kube-system"
    return binding


def _api_service() -> Manifest:
    """Puts the TrafficMetrics API behind kube-apiserver; the controller fills in its caBundle."""
    spec = {
        "group": GROUP,
        "version": VERSION_OF_METRICS,
        # Behind every group with the same plurals, so that `kubectl get pods` stays what it is.
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"namespace": SYSTEM_NAMESPACE, "name": CONTROLLER_NAME, "port": TRAFFIC_PORT},
    }
    return _object("apiregistration.k8s.io/v1", "APIService", API_SERVICE, namespaced=False, spec=spec)


def _role() -> Manifest:
    rules = [
        _rule([""], ["secrets"], "get update", [CA_SECRET]),
        # RBAC cannot restrict creation by name.
        _rule([""], ["secrets"], "create"),
    ]
    return _object("rbac.authorization.k8s.io/v1", "Role", CONTROLLER_NAME, rules=rules)


def _binding_parts(kind: str) -> Manifest:
    return {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": CONTROLLER_NAME},
        "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER_NAME, "namespace": SYSTEM_NAMESPACE}],
    }


def _cluster_role_binding() -> Manifest:
    group, name = "rbac.authorization.k8s.io/v1", CONTROLLER_NAME
    return _object(group, "ClusterRoleBinding", name, namespaced=False, **_binding_parts("ClusterRole"))


def _role_binding() -> Manifest:
    return _object("rbac.authorization.k8s.io/v1", "RoleBinding", CONTROLLER_NAME, **_binding_parts("Role"))


# --- the controller -----------------------------------------------------------------------------------------


def _config_map(settings: InstallSettings) -> Manifest:
    data = {
        "mode": settings.mode,
        "mtls": settings.mtls,
        "regex": settings.regex,
        "sameServiceAccount": settings.same_service_account,
    }
    return _object("v1", "ConfigMap", CONFIG_MAP, data=data)


def _service() -> Manifest:
    ports = [
        _service_port("discovery", DISCOVERY_PORT, DISCOVERY_PORT),
        _service_port("identity", IDENTITY_PORT, IDENTITY_PORT),
        _service_port("http-admin", CONTROLLER_ADMIN_PORT, CONTROLLER_ADMIN_PORT),
        _service_port("https-webhooks", 443, WEBHOOK_PORT),
        _service_port("https-traffic", TRAFFIC_PORT, TRAFFIC_PORT),
    ]
    return _object("v1", "Service", CONTROLLER_NAME, spec={"selector": dict(_SELECTOR), "ports": ports})


def _service_port(name: str, port: int, target: int) -> Manifest:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


def _deployment(settings: InstallSettings) -> Manifest:
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(CONTROLLER_ADMIN_PORT),
        "prometheus.io/path": "/metrics",
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": dict(_SELECTOR)},
        "template": {
            "metadata": {
                "labels": {**_LABELS, INJECT_LABEL: "disabled"},
                "annotations": annotations,
            },
            "spec": {
                "serviceAccountName": CONTROLLER_NAME,
                "priorityClassName": "system-cluster-critical",
                "terminationGracePeriodSeconds": 15,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [_container(settings)],
            },
        },
    }
    return _object("apps/v1", "Deployment", CONTROLLER_NAME, spec=spec)


def _container(settings: InstallSettings) -> Manifest:
    ports = {
        "discovery": DISCOVERY_PORT,
        "identity": IDENTITY_PORT,
        "http-admin": CONTROLLER_ADMIN_PORT,
        "https-webhooks": WEBHOOK_PORT,
        "https-traffic": TRAFFIC_PORT,
    }
    return {
        "name": "controller",
        "image": settings.controller_image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["python", "-m", "controller"],
        "env": _env(settings),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        "readinessProbe": _probe("/readyz", period=1, failures=3),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "resources": {
            "requests": {
                "cpu": settings.controller_cpu_request,
                "memory": settings.controller_memory_request,
            },
            "limits": {"memory": settings.controller_memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": CONTROLLER_ADMIN_PORT},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _env(settings: InstallSettings) -> list[Manifest]:
    fields_of_pod = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
    }
    values = {
        "SMI_MESH_PROXY_IMAGE": settings.proxy_image,
        "SMI_MESH_PROXY_PULL_POLICY": settings.pull_policy,
        "SMI_MESH_INTERCEPTION": settings.interception,
        "SMI_MESH_UDP": settings.udp,
        "SMI_MESH_CONTROLLER": settings.controller_address,
        "SMI_MESH_TRUST_DOMAIN": settings.trust_domain,
        "SMI_MESH_CLUSTER_DOMAIN": settings.cluster_domain,
        "SMI_MESH_LEAF_SECONDS": settings.leaf_seconds,
        "SMI_MESH_LOG_LEVEL": settings.log_level,
        "SMI_MESH_PROMETHEUS": settings.prometheus,
        "SMI_MESH_PROXY_LOG_LEVEL": settings.proxy_log_level,
        "SMI_MESH_METRICS": settings.metrics,
        "SMI_MESH_PROXY_WORKERS": settings.proxy_workers,
        "SMI_MESH_PROXY_ACCESS_LOG": settings.proxy_access_log,
        "SMI_MESH_PROXY_UDP_IDLE_SECONDS": settings.proxy_udp_idle_seconds,
        "SMI_MESH_PROXY_CPU_REQUEST": settings.proxy_cpu_request,
        "SMI_MESH_PROXY_MEMORY_REQUEST": settings.proxy_memory_request,
        "SMI_MESH_PROXY_MEMORY_LIMIT": settings.proxy_memory_limit,
        "SMI_MESH_TRACING": settings.tracing,
        "SMI_MESH_TRACING_PROTOCOL": settings.tracing_protocol,
        "SMI_MESH_TRACE_SAMPLING": settings.trace_sampling,
        "SMI_MESH_TRACE_CONTEXT": settings.trace_context,
        "SMI_MESH_TRACING_SECRET": settings.tracing_secret,
        "SMI_MESH_QUIET_SECONDS": settings.quiet_seconds,
        "SMI_MESH_HOLDOFF_SECONDS": settings.holdoff_seconds,
    }
    env = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields_of_pod.items()
    ]
    return env + [{"name": name, "value": value} for name, value in values.items()]


# --- webhooks -----------------------------------------------------------------------------------------------


def _webhook(name: str, path: str, rules: list[Manifest], **rest: Any) -> Manifest:
    service = {"namespace": SYSTEM_NAMESPACE, "name": CONTROLLER_NAME, "path": path, "port": 443}
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"service": service},  # caBundle is the controller's to fill in
        "rules": rules,
        **rest,
    }


def _chosen(key: str, operator: str, values: Sequence[str]) -> Manifest:
    return {"key": key, "operator": operator, "values": list(values)}


def _mutating_webhooks() -> Manifest:
    """Two ways into the mesh: the namespace's label, or the pod's own."""
    pods = [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["pods"],
            "operations": ["CREATE"],
            "scope": "Namespaced",
        }
    ]
    elsewhere = _chosen("kubernetes.io/metadata.name", "NotIn", _NEVER_MESHED)
    # A pod that slipped in without a sidecar would be outside every policy: better no pod.
    common: Manifest = {"failurePolicy": "Fail", "timeoutSeconds": 10, "reinvocationPolicy": "Never"}
    webhooks = [
        _webhook(
            "namespace.inject.smi-mesh.io",
            MUTATE_PATH,
            pods,
            namespaceSelector={"matchExpressions": [_chosen(INJECT_LABEL, "In", ["enabled"]), elsewhere]},
            objectSelector={"matchExpressions": [_chosen(INJECT_LABEL, "NotIn", ["disabled"])]},
            **common,
        ),
        _webhook(
            "pod.inject.smi-mesh.io",
            MUTATE_PATH,
            pods,
            namespaceSelector={"matchExpressions": [_chosen(INJECT_LABEL, "NotIn", ["enabled"]), elsewhere]},
            objectSelector={"matchExpressions": [_chosen(INJECT_LABEL, "In", ["enabled"])]},
            **common,
        ),
    ]
    group, kind = "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"
    return _object(group, kind, WEBHOOKS_NAME, namespaced=False, webhooks=webhooks)


def _validating_webhooks() -> Manifest:
    rules = [
        {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "resources": [kind.plural for kind in WATCHED if kind.group == group],
            "operations": ["CREATE", "UPDATE"],
            "scope": "Namespaced",
        }
        for group in _SMI_GROUPS
    ]
    # What slips in while the controller is away is quarantined by the compiler and told in its status.
    webhooks = [
        _webhook("validate.smi-mesh.io", VALIDATE_PATH, rules, failurePolicy="Ignore", timeoutSeconds=5)
    ]
    group, kind = "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
    return _object(group, kind, WEBHOOKS_NAME, namespaced=False, webhooks=webhooks)
