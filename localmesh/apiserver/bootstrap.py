"""What a cluster has from its first second: namespaces, default roles and bindings, the `kubernetes` Service.

Roles follow upstream's bootstrap policy in what they allow to users and service accounts; the roles of
upstream's own components are left out, since those components live inside this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from localmesh.apiserver import frontproxy
from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.jsonvalue import JsonObject

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_BOOTSTRAP = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_EVERYTHING = ["*"]

_CORE_EDITABLE = [
    "configmaps", "endpoints", "events", "persistentvolumeclaims", "pods", "replicationcontrollers",
    "replicationcontrollers/scale", "serviceaccounts", "services", "services/proxy",
]  # fmt: skip
_STREAMS = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]
_CORE_VIEWABLE = [
    "configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/status",
    "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "pods/log", "pods/status",
    "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status",
    "resourcequotas", "resourcequotas/status", "serviceaccounts", "services", "services/status",
]  # fmt: skip
_GROUPS_EDITABLE = {
    "apps": ["daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets",
             "replicasets/scale", "statefulsets", "statefulsets/scale"],
    "autoscaling": ["horizontalpodautoscalers"],
    "batch": ["cronjobs", "jobs"],
    "networking.k8s.io": ["ingresses", "networkpolicies"],
    "policy": ["poddisruptionbudgets"],
    "coordination.k8s.io": ["leases"],
}  # fmt: skip
_GROUPS_VIEWABLE = {
    "apps": ["controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale",
             "deployments/status", "replicasets", "replicasets/scale", "replicasets/status", "statefulsets",
             "statefulsets/scale", "statefulsets/status"],
    "autoscaling": ["horizontalpodautoscalers", "horizontalpodautoscalers/status"],
    "batch": ["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
    "discovery.k8s.io": ["endpointslices"],
    "networking.k8s.io": ["ingresses", "ingresses/status", "networkpolicies"],
    "policy": ["poddisruptionbudgets", "poddisruptionbudgets/status"],
}  # fmt: skip


def _rule(groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str]) -> JsonObject:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}


def _paths(*paths: str) -> JsonObject:
    return {"nonResourceURLs": list(paths), "verbs": ["get"]}


def _role(name: str, rules: list[JsonObject], labels: dict[str, str] | None = None) -> JsonObject:
    return {"metadata": {"name": name, "labels": {**_BOOTSTRAP, **(labels or {})}}, "rules": rules}


def _aggregate(name: str, label: str, labels: dict[str, str] | None = None) -> JsonObject:
    selector = {"matchLabels": {f"rbac.authorization.k8s.io/aggregate-to-{label}": "true"}}
    return {**_role(name, [], labels), "aggregationRule": {"clusterRoleSelectors": [selector]}}


def _to(label: str) -> dict[str, str]:
    return {f"rbac.authorization.k8s.io/aggregate-to-{label}": "true"}


def cluster_roles() -> Iterator[JsonObject]:
    yield _role("cluster-admin", [_rule("*", "*", "*"), {"nonResourceURLs": ["*"], "verbs": ["*"]}])
    yield _role(
        "system:discovery",
        [_paths("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
                "/readyz", "/version", "/version/", "/")],
    )  # fmt: skip
    yield _role(
        "system:public-info-viewer", [_paths("/healthz", "/livez", "/readyz", "/version", "/version/")]
    )
    yield _role(
        "system:basic-user",
        [
            _rule(
                ["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]
            ),
            _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
        ],
    )
    yield _role(
        "system:auth-delegator",
        [
            _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
            _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
        ],
    )
    yield _role(
        "system:service-account-issuer-discovery",
        [_paths("/.well-known/openid-configuration", "/openid/v1/jwks")],
    )
    yield _aggregate("admin", "admin")
    yield _aggregate("edit", "edit", _to("admin"))
    yield _aggregate("view", "view", _to("edit"))
    yield _role("system:aggregate-to-view", list(_view_rules()), _to("view") | _to("edit") | _to("admin"))
    yield _role("system:aggregate-to-edit", list(_edit_rules()), _to("edit") | _to("admin"))
    yield _role("system:aggregate-to-admin", list(_admin_rules()), _to("admin"))


def _view_rules() -> Iterator[JsonObject]:
    yield _rule([""], _CORE_VIEWABLE, _READ)
    for group, resources in _GROUPS_VIEWABLE.items():
        yield _rule([group], resources, _READ)


def _edit_rules() -> Iterator[JsonObject]:
    yield _rule([""], ["secrets", "services/proxy", *_STREAMS], _READ)
    yield _rule([""], ["serviceaccounts"], ["impersonate"])
    yield _rule([""], ["secrets", *_CORE_EDITABLE, *_STREAMS], _WRITE)
    yield _rule([""], ["pods/eviction", "serviceaccounts/token"], ["create"])
    for group, resources in _GROUPS_EDITABLE.items():
        yield _rule([group], resources, _READ + _WRITE)


def _admin_rules() -> Iterator[JsonObject]:
    yield _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"])
    yield _rule(["rbac.authorization.k8s.io"], ["roles", "rolebindings"], _READ + _WRITE)


def cluster_role_bindings() -> Iterator[JsonObject]:
    for name, groups in (
        ("cluster-admin", ("system:masters",)),
        ("system:discovery", ("system:authenticated",)),
        ("system:basic-user", ("system:authenticated",)),
        ("system:public-info-viewer", ("system:authenticated", "system:unauthenticated")),
        ("system:service-account-issuer-discovery", ("system:serviceaccounts",)),
    ):
        yield {
            "metadata": {"name": name, "labels": dict(_BOOTSTRAP)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group} for group in groups
            ],
        }


def kubernetes_service(port: int = 443) -> JsonObject:
    return {
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"ports": [{"name": "https", "port": port, "protocol": "TCP", "targetPort": 6443}]},
    }


async def create_missing(api: Api) -> None:
    """Create everything above that is not there; what exists is left as it is."""
    for name in SYSTEM_NAMESPACES:
        await _ensure(api, "namespaces", None, {"metadata": {"name": name}})
    for role in cluster_roles():
        await _ensure(api, "clusterroles.rbac.authorization.k8s.io", None, role)
    for binding in cluster_role_bindings():
        await _ensure(api, "clusterrolebindings.rbac.authorization.k8s.io", None, binding)
    await _ensure(api, "roles.rbac.authorization.k8s.io", frontproxy.NAMESPACE, frontproxy.reader_role())
    await _ensure(api, "services", "default", kubernetes_service())


async def publish_front_proxy(api: Api, config_map: JsonObject) -> None:
    """Write the ConfigMap extension servers read, also over an older one: its CA may be another."""
    name, namespace = config_map["metadata"]["name"], config_map["metadata"]["namespace"]
    current = api.peek("configmaps", namespace, name)
    if current is None:
        await api.create("configmaps", namespace, config_map)
    elif current.get("data") != config_map["data"]:
        await api.patch("configmaps", namespace, name, {"data": config_map["data"]})


async def _ensure(api: Api, resource: str, namespace: str | None, obj: JsonObject) -> None:
    if api.peek(resource, namespace, obj["metadata"]["name"]) is None:
        await api.create(resource, namespace, obj)


async def publish_endpoint(api: Api, address: str, port: int) -> None:
    """Endpoints and EndpointSlice of the `kubernetes` Service, replaced by this one address."""
    name = {"name": "kubernetes"}
    labels = {"kubernetes.io/service-name": "kubernetes"}
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    endpoints = {"metadata": name, "subsets": [{"addresses": [{"ip": address}], "ports": ports}]}
    slice_ = {
        "metadata": {**name, "labels": labels},
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": ports,
    }
    for resource, obj in (("endpoints", endpoints), ("endpointslices.discovery.k8s.io", slice_)):
        try:
            await api.delete(resource, "default", "kubernetes")
        except ApiError as error:
            if error.code != 404:
                raise
        await api.create(resource, "default", obj)
