"""From a Service and port to an address that answers, as far as the store knows."""

from __future__ import annotations

from typing import Any

from localmesh.apiserver.jsonvalue import JsonObject, child
from localmesh.apiserver.store import Key, Store

SLICES = "endpointslices.discovery.k8s.io"


def ready_endpoint(store: Store, namespace: str, name: str, port: int) -> tuple[str, int] | str:
    """(address, port) of a ready endpoint, or why there is none."""
    shown = f'service "{name}" in namespace "{namespace}"'
    item = store.get("services", Key(namespace, name))
    if item is None:
        return f"{shown} not found"
    spec = child(item.value, "spec")
    row = next((one for one in spec.get("ports") or [] if one.get("port") == port), None)
    if row is None:
        return f"{shown} has no port {port}"
    if spec.get("type") == "ExternalName":
        return spec.get("externalName", ""), port
    return (
        _from_slices(store, namespace, name, row)
        or _from_endpoints(store, namespace, name, row)
        or (f"no endpoints available for {shown}")
    )


def _from_slices(store: Store, namespace: str, name: str, row: JsonObject) -> tuple[str, int] | None:
    for item in store.items(SLICES, namespace):
        labels = item.value["metadata"].get("labels") or {}
        if labels.get("kubernetes.io/service-name") != name:
            continue
        number = _port(item.value.get("ports"), row)
        for endpoint in item.value.get("endpoints") or []:
            ready = child(endpoint, "conditions").get("ready", True)
            if number and ready is not False and endpoint.get("addresses"):
                return endpoint["addresses"][0], number
    return None


def _from_endpoints(store: Store, namespace: str, name: str, row: JsonObject) -> tuple[str, int] | None:
    item = store.get("endpoints", Key(namespace, name))
    for subset in (item.value.get("subsets") or []) if item else []:
        number = _port(subset.get("ports"), row)
        for address in subset.get("addresses") or []:
            if number:
                return address["ip"], number
    return None


def _port(ports: list[Any] | None, row: JsonObject) -> int | None:
    for port in ports or []:
        if (port.get("name") or "") == (row.get("name") or "") and port.get("port"):
            return int(port["port"])
    return None
