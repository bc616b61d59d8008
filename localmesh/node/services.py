"""Services as the node sees them: which address and port leads to which ready endpoints. Pure.

One table feeds everything on the data path: the DNAT rules (`iptables`), the listeners of loopback mode
(`loopback`) and the DNS records (`dns`). Sources: core/v1 Service, discovery.k8s.io/v1 EndpointSlice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service with its ready endpoints, sorted."""

    namespace: str
    service: str
    name: str
    """Port name, "" for the unnamed single port."""
    protocol: str
    address: str
    """ClusterIP, "" for headless services."""
    port: int
    node_port: int | None
    backends: tuple[Backend, ...]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.service}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class ServiceName:
    """What DNS says of one Service."""

    namespace: str
    service: str
    address: str
    external: str = ""
    ready: tuple[str, ...] = ()
    """Addresses of ready endpoints (answers of a headless service)."""
    hosts: tuple[tuple[str, str], ...] = ()
    """(host name, address) of endpoints with a host name."""
    ports: tuple[tuple[str, str, int], ...] = ()
    """(name, protocol, port) of named ports; for headless services the target port."""


@dataclass(frozen=True, slots=True)
class ServiceTable:
    ports: tuple[ServicePort, ...] = ()
    names: tuple[ServiceName, ...] = ()
    pods: frozenset[str] = field(default_factory=frozenset)
    """Addresses of backends that run on this node: they need the hairpin rule."""


def service_table(services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]]) -> ServiceTable:
    by_service: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for piece in slices:
        owner = (piece["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL)
        if owner and piece.get("addressType") == "IPv4":
            by_service.setdefault((piece["metadata"]["namespace"], owner), []).append(piece)
    ports: list[ServicePort] = []
    names: list[ServiceName] = []
    for service in sorted(services, key=_identity):
        pieces = by_service.get(_identity(service), [])
        names.append(_name(service, pieces))
        ports.extend(_ports(service, pieces))
    addresses = frozenset(backend.address for port in ports for backend in port.backends)
    return ServiceTable(tuple(ports), tuple(names), addresses)


def _identity(service: Mapping[str, Any]) -> tuple[str, str]:
    return service["metadata"]["namespace"], service["metadata"]["name"]


def _cluster_ip(service: Mapping[str, Any]) -> str:
    address = (service.get("spec") or {}).get("clusterIP") or ""
    return "" if address == "None" else str(address)


def _ready(piece: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        endpoint
        for endpoint in piece.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses")
    ]


def _backends(pieces: list[Mapping[str, Any]], port: Mapping[str, Any]) -> tuple[Backend, ...]:
    found: set[Backend] = set()
    for piece in pieces:
        for offered in piece.get("ports") or ():
            same = (offered.get("name") or "") == (port.get("name") or "")
            if not same or (offered.get("protocol") or "TCP") != (port.get("protocol") or "TCP"):
                continue
            if offered.get("port"):
                found |= {
                    Backend(address, int(offered["port"]))
                    for endpoint in _ready(piece)
                    for address in endpoint["addresses"]
                }
    return tuple(sorted(found))


def _ports(service: Mapping[str, Any], pieces: list[Mapping[str, Any]]) -> list[ServicePort]:
    namespace, name = _identity(service)
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    return [
        ServicePort(
            namespace=namespace,
            service=name,
            name=port.get("name") or "",
            protocol=port.get("protocol") or "TCP",
            address=_cluster_ip(service),
            port=int(port["port"]),
            node_port=int(port["nodePort"]) if port.get("nodePort") else None,
            backends=_backends(pieces, port),
        )
        for port in spec.get("ports") or ()
    ]


def _name(service: Mapping[str, Any], pieces: list[Mapping[str, Any]]) -> ServiceName:
    namespace, name = _identity(service)
    spec = service.get("spec") or {}
    ready = [endpoint for piece in pieces for endpoint in _ready(piece)]
    hosts = {(str(e["hostname"]), str(a)) for e in ready if e.get("hostname") for a in e["addresses"]}
    address = _cluster_ip(service)
    offered = (
        spec.get("ports") or ()
        if address
        else [port for piece in pieces for port in piece.get("ports") or ()]
    )
    ports = {
        (p["name"], (p.get("protocol") or "TCP").lower(), int(p["port"])) for p in offered if p.get("name")
    }
    return ServiceName(
        namespace=namespace,
        service=name,
        address=address,
        external=spec.get("externalName") or "" if spec.get("type") == "ExternalName" else "",
        ready=tuple(sorted({str(a) for e in ready for a in e["addresses"]})),
        hosts=tuple(sorted(hosts)),
        ports=tuple(sorted(ports)),
    )
