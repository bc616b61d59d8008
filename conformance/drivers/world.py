"""The objects that stand in a case's namespaces before it begins. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from conformance.driver import Object
from conformance.profiles import Profile, labels_with_port

CONTROL_PORT: Final = 9000
PORTS: Final = (("http", 8080), ("tcp", 8090), ("udp", 8070))
SERVERS: Final = ("alpha", "beta", "gamma")
CALLERS: Final = ("client", "other")
ROOT: Final = "web"
MARKER: Final = "conformance-marker"
OWNER_LABEL: Final = "conformance.smi-mesh.io/run"


@dataclass(frozen=True, slots=True)
class Plan:
    """What all sites of a run have in common."""

    run: str
    """Identifies the run; on every namespace as a label."""
    image: str
    profile: Profile
    bind: str = "0.0.0.0"  # noqa: S104 - pods are reached from outside their namespace
    patience: float = 1.0
    """Factor of the time that a case waits for what must become true."""


def namespace(plan: Plan, name: str) -> Object:
    """A namespace that belongs to the mesh."""
    labels = {**plan.profile.namespace_labels, OWNER_LABEL: plan.run}
    annotations = dict(plan.profile.namespace_annotations)
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def standing(plan: Plan) -> list[Object]:
    """The first namespace: callers, servers, an outsider and the root service."""
    objects: list[Object] = []
    for name in CALLERS:
        objects += workload(plan, name)
    for name in SERVERS:
        objects += workload(plan, name, labels={"tier": "server"})
    objects += workload(plan, "outsider", meshed=False)
    objects.append(service(ROOT, {"tier": "server"}))
    objects.append(service(MARKER, None))
    return objects


def standing_second(plan: Plan) -> list[Object]:
    """The second namespace: `visitor`, whose account is called `client`."""
    return workload(plan, "visitor", account="client")


def service(
    name: str, selector: Mapping[str, str] | None, ports: Sequence[tuple[str, int]] = PORTS
) -> Object:
    """A Service with our ports; without a selector it has no endpoints."""
    entries = [
        {"name": port_name, "port": port, "protocol": "UDP" if port_name.startswith("udp") else "TCP"}
        for port_name, port in ports
    ]
    spec: dict[str, Any] = {"ports": entries}
    if selector is not None:
        spec["selector"] = dict(selector)
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def workload(
    plan: Plan,
    name: str,
    *,
    account: str | None = None,
    replicas: int = 1,
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    ports: Sequence[tuple[str, int]] | None = None,
    meshed: bool = True,
    container: Mapping[str, Any] | None = None,
) -> list[Object]:
    """Account, Deployment and Service of one workload of the test application."""
    who = account or name
    ports = PORTS if ports is None else ports
    own_labels = {"app": name, **(labels or {})}
    own_annotations = labels_with_port(plan.profile.pod_annotations, CONTROL_PORT)
    if not meshed:
        own_labels |= plan.profile.outside_labels
        own_annotations = labels_with_port(plan.profile.outside_annotations, CONTROL_PORT)
    template = {
        "metadata": {"labels": own_labels, "annotations": {**own_annotations, **(annotations or {})}},
        "spec": {
            "serviceAccountName": who,
            "terminationGracePeriodSeconds": 1,
            "containers": [_container(plan, name, env or {}, ports) | dict(container or {})],
        },
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }
    accounts = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": who}}]
    return [*accounts, deployment, service(name, {"app": name}, ports)]


def _container(plan: Plan, name: str, env: Mapping[str, str], ports: Sequence[tuple[str, int]]) -> Object:
    variables: dict[str, Any] = {
        "NAME": name,
        "HTTP_PORT": "8080",
        "TCP_PORT": "8090",
        "UDP_PORT": "8070",
        **env,
    }
    entries: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in variables.items()]
    entries.insert(0, {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    entries.insert(1, {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    entries.append({"name": "BIND", "value": plan.bind})
    return {
        "name": "app",
        "image": plan.image,
        "env": entries,
        "ports": [
            *(
                {
                    "name": port_name,
                    "containerPort": port,
                    "protocol": "UDP" if port_name.startswith("udp") else "TCP",
                }
                for port_name, port in ports
            ),
            {"name": "control", "containerPort": CONTROL_PORT},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "control"}, "periodSeconds": 1},
    }


def extra_grants(plan: Plan, server: str, own: str, second: str, ports: Sequence[int]) -> list[Object]:
    """The standing grants for a workload of a case's own, which may listen on other ports."""
    name = f"standing-{server}-ports"
    route = _smi("specs", "v1alpha4", "TCPRoute", name, {"matches": {"ports": sorted(set(ports))}})
    return [route, *_opening(plan, server, own, second, name)]


def listening(env: Mapping[str, str], ports: Sequence[tuple[str, int]] | None) -> list[int]:
    """The TCP ports a workload may listen on, by what it was deployed with."""
    named = [int(value) for key, value in env.items() if key.endswith("_PORT") and value.isdigit()]
    return [8080, 8090, *named, *(port for _, port in ports or ())]


def grants(plan: Plan, servers: Sequence[str], own: str, second: str) -> list[Object]:
    """TrafficTargets that let every standing caller do everything at `servers`."""
    routes: list[Object] = [
        _smi(
            "specs", "v1alpha4", "HTTPRouteGroup", "standing-http",
            {"matches": [{"name": "all", "pathRegex": ".*", "methods": ["*"]}]},
        ),
        _smi("specs", "v1alpha4", "TCPRoute", "standing-tcp", {"matches": {"ports": [8080, 8090]}}),
    ]  # fmt: skip
    if _has_udp(plan):
        routes.append(_smi("specs", "v1alpha4", "UDPRoute", "standing-udp", {"matches": {"ports": [8070]}}))
    opened = [_opening(plan, server, own, second, "standing-tcp") for server in servers]
    return routes + [target for targets in opened for target in targets]


def _has_udp(plan: Plan) -> bool:
    """Whether the mesh knows UDPRoutes: the kind may not even be served by one that claims nothing of it."""
    return bool({"access-udp", "specs-udp", "split-udp"} & plan.profile.claimed)


def _opening(plan: Plan, server: str, own: str, second: str, tcp_route: str) -> list[Object]:
    """Targets that open one server, one per protocol: what a TCPRoute means for HTTP, and a rule that names
    no matches, is not the same in every mesh."""
    sources = [(who, own) for who in CALLERS] + [("client", second)]
    rules = {"": ("TCPRoute", tcp_route), "-http": ("HTTPRouteGroup", "standing-http", "all")}
    if _has_udp(plan):
        rules["-udp"] = ("UDPRoute", "standing-udp")
    return [
        _target(f"standing-{server}{ending}", server, own, sources, [rule]) for ending, rule in rules.items()
    ]


def marker_split(backend: str) -> Object:
    """The marker of open cases: a split that sends everything to one server."""
    spec = {"service": MARKER, "backends": [{"service": backend, "weight": 1}]}
    return _smi("split", "v1alpha2", "TrafficSplit", MARKER, spec)


def marker_path(nonce: str) -> str:
    return f"/{MARKER}/{nonce}"


def denied_path(nonce: str) -> str:
    """A path that no marker allows: who serves it serves everything."""
    return f"/{MARKER}-denied/{nonce}"


def marker_grants(nonce: str, own: str) -> list[Object]:
    """The marker of closed cases: the servers may call one odd path at each other."""
    match = {"name": "marker", "pathRegex": marker_path(nonce), "methods": ["GET"]}
    rules = [("HTTPRouteGroup", MARKER, "marker")]
    return [
        _smi("specs", "v1alpha4", "HTTPRouteGroup", MARKER, {"matches": [match]}),
        *(
            _target(f"{MARKER}-{server}", server, own, [(o, own) for o in SERVERS if o != server], rules)
            for server in SERVERS
        ),
    ]


def _target(
    name: str, server: str, own: str, sources: Sequence[tuple[str, str]], rules: Sequence[tuple[str, ...]]
) -> Object:
    """A TrafficTarget; a rule is its kind, its name, and the matches it names."""
    account = {"kind": "ServiceAccount", "name": server, "namespace": own}
    spec = {
        "destination": account,
        "sources": [{"kind": "ServiceAccount", "name": who, "namespace": where} for who, where in sources],
        "rules": [
            {"kind": kind, "name": rule} | ({"matches": matches} if matches else {})
            for kind, rule, *matches in rules
        ],
    }
    return _smi("access", "v1alpha3", "TrafficTarget", name, spec)


def _smi(group: str, version: str, kind: str, name: str, spec: Object) -> Object:
    api_version = f"{group}.smi-spec.io/{version}"
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
