"""The built-in resources as a table: what upstream serves under these names, as far as we keep it.

Facts follow upstream's discovery documents (kinds, short names, categories, subresources) and its REST
strategies (which kinds count generations, which answer DELETE with the object).
"""

from __future__ import annotations

from localmesh.apiserver.registry import CREATE_ONLY, CRUD, Resource, Subresource

_STATUS = ("get", "patch", "update")


def _status(kind: str) -> Subresource:
    return Subresource("status", kind, _STATUS)


_SCALE = Subresource("scale", "Scale", _STATUS, "autoscaling", "v1")


def _kind(
    group: str,
    kind: str,
    plural: str,
    *,
    short: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    cluster: bool = False,
    status: bool = False,
    scale: bool = False,
    more: tuple[Subresource, ...] = (),
    versions: tuple[str, ...] = ("v1",),
    verbs: tuple[str, ...] = CRUD,
    to_object: bool = False,
    generation: bool = False,
    selectable: tuple[str, ...] = (),
    store_key: str = "",
) -> Resource:
    subresources = (*((_status(kind),) if status else ()), *((_SCALE,) if scale else ()), *more)
    return Resource(
        group=group,
        versions=versions,
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        list_kind=f"{kind}List",
        namespaced=not cluster,
        storage_version=versions[0],
        short_names=short,
        categories=categories,
        verbs=verbs,
        subresources=subresources,
        deletes_to_object=to_object,
        generation=generation,
        selectable=frozenset(selectable),
        store_key=store_key,
    )


_ALL = ("all",)
_CONNECT = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")
_ABOUT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT_FIELDS = (
    *(f"involvedObject.{name}" for name in _ABOUT),
    "reason",
    "reportingComponent",
    "source",
    "type",
)

_CORE = (
    _kind("", "Binding", "bindings", verbs=CREATE_ONLY),
    # Nothing to list: the cluster has no components of its own to report. Clients still ask.
    _kind("", "ComponentStatus", "componentstatuses", short=("cs",), cluster=True, verbs=("get", "list")),
    _kind("", "ConfigMap", "configmaps", short=("cm",)),
    _kind("", "Endpoints", "endpoints", short=("ep",)),
    _kind("", "Event", "events", short=("ev",), selectable=_EVENT_FIELDS),
    _kind("", "LimitRange", "limitranges", short=("limits",)),
    _kind(
        "",
        "Namespace",
        "namespaces",
        short=("ns",),
        cluster=True,
        status=True,
        more=(Subresource("finalize", "Namespace", ("update",)),),
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        selectable=("status.phase",),
    ),
    _kind(
        "",
        "Node",
        "nodes",
        short=("no",),
        cluster=True,
        status=True,
        selectable=("spec.unschedulable",),
    ),
    _kind(
        "", "PersistentVolume", "persistentvolumes", short=("pv",), cluster=True, status=True, to_object=True
    ),
    _kind("", "PersistentVolumeClaim", "persistentvolumeclaims", short=("pvc",), status=True, to_object=True),
    _kind(
        "",
        "Pod",
        "pods",
        short=("po",),
        categories=_ALL,
        status=True,
        to_object=True,
        generation=True,
        more=(
            Subresource("binding", "Binding", CREATE_ONLY),
            Subresource("ephemeralcontainers", "Pod", _STATUS),
            Subresource("eviction", "Eviction", CREATE_ONLY, "policy", "v1"),
            Subresource("log", "Pod", ("get",)),
            Subresource("attach", "PodAttachOptions", _CONNECT),
            Subresource("exec", "PodExecOptions", _CONNECT),
            Subresource("portforward", "PodPortForwardOptions", _CONNECT),
            Subresource("proxy", "PodProxyOptions", _PROXY),
        ),
        selectable=(
            "spec.hostNetwork",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
        ),
    ),
    _kind("", "PodTemplate", "podtemplates", to_object=True),
    _kind(
        "",
        "ReplicationController",
        "replicationcontrollers",
        short=("rc",),
        categories=_ALL,
        status=True,
        scale=True,
        generation=True,
        selectable=("status.replicas",),
    ),
    _kind("", "ResourceQuota", "resourcequotas", short=("quota",), status=True, to_object=True),
    _kind("", "Secret", "secrets", selectable=("type",)),
    _kind(
        "",
        "Service",
        "services",
        short=("svc",),
        categories=_ALL,
        status=True,
        to_object=True,
        more=(Subresource("proxy", "ServiceProxyOptions", _PROXY),),
        selectable=("spec.clusterIP", "spec.type"),
    ),
    _kind(
        "",
        "ServiceAccount",
        "serviceaccounts",
        short=("sa",),
        to_object=True,
        more=(Subresource("token", "TokenRequest", CREATE_ONLY, "authentication.k8s.io", "v1"),),
    ),
)

_APPS = (
    _kind("apps", "ControllerRevision", "controllerrevisions"),
    _kind("apps", "DaemonSet", "daemonsets", short=("ds",), categories=_ALL, status=True, generation=True),
    _kind(
        "apps",
        "Deployment",
        "deployments",
        short=("deploy",),
        categories=_ALL,
        status=True,
        scale=True,
        generation=True,
    ),
    _kind(
        "apps",
        "ReplicaSet",
        "replicasets",
        short=("rs",),
        categories=_ALL,
        status=True,
        scale=True,
        generation=True,
        selectable=("status.replicas",),
    ),
    _kind(
        "apps",
        "StatefulSet",
        "statefulsets",
        short=("sts",),
        categories=_ALL,
        status=True,
        scale=True,
        generation=True,
    ),
)

_WORK = (
    _kind("batch", "CronJob", "cronjobs", short=("cj",), categories=_ALL, status=True, generation=True),
    _kind(
        "batch",
        "Job",
        "jobs",
        categories=_ALL,
        status=True,
        generation=True,
        selectable=("status.successful",),
    ),
    _kind(
        "autoscaling",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        short=("hpa",),
        categories=_ALL,
        status=True,
        versions=("v2", "v1"),
    ),
    _kind(
        "policy",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        short=("pdb",),
        status=True,
        generation=True,
    ),
)

_EXTENSION_API = "api-extensions"
_CLUSTER = (
    _kind(
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        categories=(_EXTENSION_API,),
        cluster=True,
        generation=True,
    ),
    _kind(
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        categories=(_EXTENSION_API,),
        cluster=True,
        generation=True,
    ),
    _kind(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        short=("crd", "crds"),
        categories=(_EXTENSION_API,),
        cluster=True,
        status=True,
        generation=True,
    ),
    _kind(
        "apiregistration.k8s.io",
        "APIService",
        "apiservices",
        categories=(_EXTENSION_API,),
        cluster=True,
        status=True,
    ),
    _kind("coordination.k8s.io", "Lease", "leases"),
    _kind("discovery.k8s.io", "EndpointSlice", "endpointslices", generation=True),
    _kind(
        "events.k8s.io",
        "Event",
        "events",
        short=("ev",),
        store_key="events",
        selectable=(
            "reason",
            "reportingController",
            "type",
            "regarding.kind",
            "regarding.name",
            "regarding.namespace",
            "regarding.uid",
        ),
    ),
    _kind(
        "networking.k8s.io",
        "Ingress",
        "ingresses",
        short=("ing",),
        status=True,
        generation=True,
    ),
    _kind("networking.k8s.io", "IngressClass", "ingressclasses", cluster=True, generation=True),
    _kind("networking.k8s.io", "NetworkPolicy", "networkpolicies", short=("netpol",), generation=True),
    _kind("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", cluster=True),
    _kind("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", cluster=True),
    _kind("rbac.authorization.k8s.io", "Role", "roles"),
    _kind("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
    _kind("scheduling.k8s.io", "PriorityClass", "priorityclasses", short=("pc",), cluster=True),
    _kind("storage.k8s.io", "StorageClass", "storageclasses", short=("sc",), cluster=True, to_object=True),
)

REVIEWS = (
    _kind(
        "authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", cluster=True, verbs=CREATE_ONLY
    ),
    _kind("authentication.k8s.io", "TokenReview", "tokenreviews", cluster=True, verbs=CREATE_ONLY),
    _kind("authorization.k8s.io", "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=CREATE_ONLY),
    _kind(
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        cluster=True,
        verbs=CREATE_ONLY,
    ),
    _kind(
        "authorization.k8s.io",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        cluster=True,
        verbs=CREATE_ONLY,
    ),
    _kind(
        "authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews", cluster=True, verbs=CREATE_ONLY
    ),
)
"""Resources that are questions: a POST is answered and nothing is stored."""

BUILTIN: tuple[Resource, ...] = _CORE + _APPS + _WORK + _CLUSTER + REVIEWS
