"""Kubernetes dictionaries for compiler tests, as short as the tests need them, and worlds made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controller.compile.compiler import compile  # noqa: A004 - the architecture's own verb
from controller.compile.read import from_kubernetes
from controller.compile.snapshot import Snapshot
from controller.compile.world import World

Obj = dict[str, Any]


def world_of(objects: Iterable[Obj]) -> World:
    return World.of(from_kubernetes(obj["kind"], obj) for obj in objects)


def snapshot_of(*objects: Obj) -> Snapshot:
    return compile(world_of(objects))


def namespace(name: str = "shop", **annotations: str) -> Obj:
    """`mode="permissive"` becomes annotation `smi-mesh.io/mode: permissive`."""
    marks = {f"smi-mesh.io/{key}": value for key, value in annotations.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": marks}}


def settings(**data: str) -> Obj:
    metadata = {"name": "smi-mesh-config", "namespace": "smi-mesh-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def service(
    name: str,
    ports: Iterable[Any] = ({"port": 80, "targetPort": 8080},),
    *,
    ns: str = "shop",
    ip: str = "None",
    selector: Mapping[str, str] | None = None,
) -> Obj:
    """Headless unless it is given an address."""
    spec: Obj = {"clusterIP": ip, "ports": list(ports)}
    if selector is not None:
        spec["selector"] = dict(selector)
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns}, "spec": spec}


def pod(
    name: str,
    ip: str,
    *,
    ns: str = "shop",
    sa: str = "default",
    meshed: bool = True,
    labels: Mapping[str, str] | None = None,
    containers: Iterable[Mapping[str, object]] = (),
    ready: bool = True,
    annotations: Mapping[str, str] | None = None,
) -> Obj:
    mark = {"smi-mesh.io/meshed": "true"} if meshed else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": ns,
            "labels": {**(labels or {}), **mark},
            "annotations": dict(annotations or {}),
        },
        "spec": {"serviceAccountName": sa, "containers": list(containers)},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def endpoint(
    pod_name: str,
    ip: str,
    *,
    ready: bool = True,
    ns: str = "shop",
    hostname: str = "",
    serving: bool | None = None,
) -> Obj:
    found: Obj = {
        "addresses": [ip],
        "conditions": {"ready": ready} | ({} if serving is None else {"serving": serving}),
        "targetRef": {"kind": "Pod", "name": pod_name, "namespace": ns},
    }
    if hostname:
        found["hostname"] = hostname
    return found


def endpoint_slice(
    service_name: str,
    endpoints: Iterable[Obj],
    ports: Iterable[Mapping[str, object]] = ({"port": 8080},),
    *,
    ns: str = "shop",
    suffix: str = "1",
) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name}-{suffix}",
            "namespace": ns,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv4",
        "ports": list(ports),
        "endpoints": list(endpoints),
    }


def workload(name: str, ip: str, *, cluster_ip: str = "None", sa: str = "", ns: str = "shop") -> list[Obj]:
    """A Service on port 80 with one meshed pod `<name>-0` listening on 8080, and its slice."""
    return [
        service(name, ns=ns, ip=cluster_ip),
        pod(f"{name}-0", ip, ns=ns, sa=sa or name),
        endpoint_slice(name, [endpoint(f"{name}-0", ip, ns=ns)], ns=ns),
    ]


def smi(
    kind: str, version: str, name: str, spec: Mapping[str, object], *, ns: str = "shop", **metadata: object
) -> Obj:
    group = {"TrafficSplit": "split", "TrafficTarget": "access", "IdentityBinding": "access"}.get(
        kind, "specs"
    )
    return {
        "apiVersion": f"{group}.smi-spec.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": ns, "uid": f"uid-{name}", "generation": 1, **metadata},
        "spec": dict(spec),
    }


def split(
    name: str,
    root: str,
    weights: Mapping[str, int],
    *,
    matches: Iterable[str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    ns: str = "shop",
    **metadata: object,
) -> Obj:
    spec: Obj = {
        "service": root,
        "backends": [{"service": key, "weight": value} for key, value in weights.items()],
    }
    if matches is not None:
        spec["matches"] = [{"kind": "HTTPRouteGroup", "name": group} for group in matches]
    return smi("TrafficSplit", "v1alpha4", name, spec, ns=ns, creationTimestamp=created, **metadata)


def target(
    name: str,
    to: str,
    sources: Iterable[str],
    rules: Iterable[Mapping[str, object]],
    *,
    ns: str = "shop",
    to_ns: str | None = None,
) -> Obj:
    """Sources are service accounts, `name` or `namespace/name`."""
    listed = []
    for source in sources:
        where, slash, account = source.rpartition("/")
        listed.append({"kind": "ServiceAccount", "name": account, "namespace": where if slash else ns})
    destination = {"kind": "ServiceAccount", "name": to, "namespace": ns if to_ns is None else to_ns}
    spec = {"destination": destination, "sources": listed, "rules": list(rules)}
    return smi("TrafficTarget", "v1alpha3", name, spec, ns=ns)


def http_rule(group: str, *matches: str) -> Obj:
    rule: Obj = {"kind": "HTTPRouteGroup", "name": group}
    if matches:
        rule["matches"] = list(matches)
    return rule


def route_group(name: str, *matches: Mapping[str, object], ns: str = "shop") -> Obj:
    return smi("HTTPRouteGroup", "v1alpha4", name, {"matches": list(matches)}, ns=ns)


def tcp_route(name: str, *ports: int, ns: str = "shop") -> Obj:
    return smi("TCPRoute", "v1alpha4", name, {"matches": {"ports": list(ports)}}, ns=ns)


def identity_binding(name: str, schemes: Mapping[str, object], *, ns: str = "shop") -> Obj:
    return smi("IdentityBinding", "v1alpha4", name, {"schemes": dict(schemes)}, ns=ns)
