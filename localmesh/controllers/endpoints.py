"""Services → Endpoints and EndpointSlices, from pods; and slices for Endpoints that people write themselves.

A pod is an endpoint as long as it has an address and runs; it is a ready one while its Ready condition is
True (or the Service publishes unready addresses) and it is not terminating. Slices go on saying of a
terminating pod whether it serves; `subsets` leaves it out. Both are pure. Unlike upstream 127/8 addresses are
allowed: they are the pods of loopback mode.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import current, delete_quietly, owner_reference
from localmesh.controllers.pods import is_ready, is_terminating

SLICES: Final = "endpointslices.discovery.k8s.io"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
MANAGED_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
HEADLESS_LABEL: Final = "service.kubernetes.io/headless"
OURS: Final = "endpointslice-controller.k8s.io"
MIRROR: Final = "endpointslicemirroring-controller.k8s.io"
SLICE_MAX: Final = 100

Ports = tuple[tuple[str, int, str, str], ...]
"""(name, port, protocol, appProtocol)."""


def resolve_ports(service: Mapping[str, Any], pod: Mapping[str, Any]) -> Ports:
    """The Service's ports on this pod; a named target port the pod lacks is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = _target(port, pod)
        if number is not None:
            protocol, application = port.get("protocol") or "TCP", port.get("appProtocol") or ""
            found.append((port.get("name") or "", number, protocol, application))
    return tuple(found)


def _target(port: Mapping[str, Any], pod: Mapping[str, Any]) -> int | None:
    target = port.get("targetPort")
    if target is None or target == 0:
        return int(port["port"])
    if isinstance(target, int):
        return target
    protocol = port.get("protocol") or "TCP"
    spec = pod["spec"]
    sidecars = [item for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for declared in container.get("ports") or ():
            if declared.get("name") == target and (declared.get("protocol") or "TCP") == protocol:
                return int(declared["containerPort"])
    return int(target) if str(target).isdigit() else None


def chosen_pods(service: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pods behind the Service, by name."""
    selector = (service["spec"].get("selector") or {}).items()
    found = [
        pod
        for pod in pods
        if selector <= (pod["metadata"].get("labels") or {}).items()
        and (pod.get("status") or {}).get("podIP")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def _by_ports(
    service: Mapping[str, Any], pods: list[Mapping[str, Any]]
) -> dict[Ports, list[Mapping[str, Any]]]:
    groups: dict[Ports, list[Mapping[str, Any]]] = {}
    headless = service["spec"].get("clusterIP") == "None"
    for pod in pods:
        ports = resolve_ports(service, pod)
        if ports or headless:
            groups.setdefault(ports, []).append(pod)
    return groups


def _is_published(service: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    return is_ready(pod) or bool(service["spec"].get("publishNotReadyAddresses"))


def _reference(pod: Mapping[str, Any]) -> dict[str, str]:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}


def _hostname(service: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    spec = pod["spec"]
    return str(spec.get("hostname") or "") if spec.get("subdomain") == service["metadata"]["name"] else ""


def _port_json(ports: Ports) -> list[dict[str, Any]]:
    rows = [{"name": n, "port": p, "protocol": t, "appProtocol": a} for n, p, t, a in ports]
    return [{key: value for key, value in row.items() if value != ""} for row in rows]


def subsets(service: Mapping[str, Any], pods: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`subsets` of the Endpoints object."""
    out = []
    staying = [pod for pod in pods if not is_terminating(pod)]
    for ports, group in sorted(_by_ports(service, staying).items()):
        subset: dict[str, Any] = {}
        for key, wanted in (("addresses", True), ("notReadyAddresses", False)):
            rows = []
            for pod in group:
                if _is_published(service, pod) is not wanted:
                    continue
                row = {
                    "ip": pod["status"]["podIP"],
                    "nodeName": pod["spec"].get("nodeName"),
                    "targetRef": _reference(pod),
                }
                if _hostname(service, pod):
                    row["hostname"] = _hostname(service, pod)
                rows.append(row)
            if rows:
                subset[key] = rows
        if ports:
            subset["ports"] = _port_json(ports)
        out.append(subset)
    return out


def slices(service: Mapping[str, Any], pods: list[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """EndpointSlices by name; the name depends on Service and ports only, so that churn updates in place."""
    wanted: dict[str, dict[str, Any]] = {}
    for ports, group in sorted(_by_ports(service, pods).items()):
        for number in range(0, len(group), SLICE_MAX):
            rows = [_endpoint(service, pod) for pod in group[number : number + SLICE_MAX]]
            name = _slice_name(service["metadata"]["name"], [ports, number])
            wanted[name] = _slice(service, name, _port_json(ports), rows, OURS)
    if not wanted:
        name = _slice_name(service["metadata"]["name"], [])
        wanted[name] = _slice(service, name, [], [], OURS)
    return wanted


def _endpoint(service: Mapping[str, Any], pod: Mapping[str, Any]) -> dict[str, Any]:
    leaving, published = is_terminating(pod), bool(service["spec"].get("publishNotReadyAddresses"))
    ready = published or (is_ready(pod) and not leaving)
    row: dict[str, Any] = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": is_ready(pod), "terminating": leaving},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": _reference(pod),
    }
    if _hostname(service, pod):
        row["hostname"] = _hostname(service, pod)
    return row


def _slice_name(service: str, parts: Any) -> str:
    return f"{service}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:5]}"


def _slice(
    service: Mapping[str, Any],
    name: str,
    ports: list[dict[str, Any]],
    endpoints: list[dict[str, Any]],
    manager: str,
) -> dict[str, Any]:
    labels = dict(service["metadata"].get("labels") or {})
    labels |= {SERVICE_LABEL: service["metadata"]["name"], MANAGED_LABEL: manager}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": service["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(service, "v1", "Service")],
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP"} | port for port in ports],
        "endpoints": endpoints,
    }


def mirrored(service: Mapping[str, Any], endpoints: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Slices that repeat Endpoints somebody wrote for a Service without selector."""
    wanted: dict[str, dict[str, Any]] = {}
    for number, subset in enumerate(endpoints.get("subsets") or ()):
        rows = [
            {"addresses": [row["ip"]], "conditions": {"ready": ready}} | _kept(row)
            for key, ready in (("addresses", True), ("notReadyAddresses", False))
            for row in subset.get(key) or ()
        ]
        name = _slice_name(service["metadata"]["name"], ["mirror", number])
        wanted[name] = _slice(service, name, list(subset.get("ports") or ()), rows, MIRROR)
    return wanted


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("hostname", "nodeName", "targetRef") if row.get(key)}


class EndpointsController:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._labels: dict[Key, dict[str, str]] = {}
        self.loop = ControlLoop("endpoints", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "services",
                lambda: feed(self._api.watch("services"), lambda _k, obj: self.loop.add(key_of(obj))),
            ),
            (
                "endpoints",
                lambda: feed(self._api.watch("endpoints"), lambda _k, obj: self.loop.add(key_of(obj))),
            ),
            ("pods", self._follow_pods),
        )

    async def _follow_pods(self) -> None:
        async for kind, pod in self._api.watch("pods"):
            key = key_of(pod)
            now = pod["metadata"].get("labels") or {}
            before = self._labels.get(key, now)
            if kind == "DELETED":
                self._labels.pop(key, None)
            else:
                self._labels[key] = now
            for service in await self._api.list("services", key[0]):
                selector = ((service.get("spec") or {}).get("selector") or {}).items()
                if selector and (selector <= now.items() or selector <= before.items()):
                    self.loop.add(key_of(service))

    async def reconcile(self, key: Key) -> float | None:
        service = await current(self._api, "services", *key)
        if service is None or "deletionTimestamp" in service["metadata"]:
            await self._remove(key)
            return None
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return None
        if spec.get("selector"):
            pods = chosen_pods(service, await self._api.list("pods", key[0]))
            await self._write_slices(key, slices(service, pods), OURS)
            await self._write_endpoints(service, subsets(service, pods))
            return None
        endpoints = await current(self._api, "endpoints", *key)
        if endpoints is not None and key != ("default", "kubernetes"):  # the API server speaks for itself
            await self._write_slices(key, mirrored(service, endpoints), MIRROR)
        return None

    async def _remove(self, key: Key) -> None:
        namespace, name = key
        await delete_quietly(self._api, "endpoints", namespace, name)
        for piece in await self._existing(key):
            await delete_quietly(self._api, SLICES, namespace, piece["metadata"]["name"])

    async def _existing(self, key: Key) -> list[dict[str, Any]]:
        return await self._api.list(
            SLICES, key[0], f"{SERVICE_LABEL}={key[1]},{MANAGED_LABEL} in ({OURS},{MIRROR})"
        )

    async def _write_slices(self, key: Key, wanted: dict[str, dict[str, Any]], manager: str) -> None:
        namespace = key[0]
        existing = {piece["metadata"]["name"]: piece for piece in await self._existing(key)}
        for name, piece in wanted.items():
            old = existing.pop(name, None)
            if old is None:
                await self._api.create(SLICES, namespace, piece)
            elif _differs(old, piece, ("ports", "endpoints")):
                meta = {**old["metadata"], **piece["metadata"]}
                await self._api.update(SLICES, namespace, name, {**old, **piece, "metadata": meta})
        for name, piece in existing.items():
            if (piece["metadata"].get("labels") or {}).get(MANAGED_LABEL) == manager or wanted:
                await delete_quietly(self._api, SLICES, namespace, name)

    async def _write_endpoints(self, service: dict[str, Any], wanted: list[dict[str, Any]]) -> None:
        meta = service["metadata"]
        labels = dict(meta.get("labels") or {})
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS_LABEL] = ""
        fresh: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": labels},
            "subsets": wanted,
        }
        old = await current(self._api, "endpoints", meta["namespace"], meta["name"])
        if old is None:
            await self._api.create("endpoints", meta["namespace"], fresh)
        elif _differs(old, fresh, ("subsets",)):
            kept = {**old["metadata"], **fresh["metadata"]}
            await self._api.update(
                "endpoints", meta["namespace"], meta["name"], {**old, **fresh, "metadata": kept}
            )


def _differs(old: Mapping[str, Any], new: Mapping[str, Any], fields: tuple[str, ...]) -> bool:
    if any((old.get(name) or []) != (new.get(name) or []) for name in fields):
        return True
    have = old["metadata"].get("labels") or {}
    return bool((new["metadata"].get("labels") or {}) != have)
