"""Services, their names and their addresses: where a name or an address leads.

Knows nothing of endpoints (`endpoints.py`) or of SMI objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.compile.world import Port, Service, World
from smi.names import NamespacedName


def destination_key(service: NamespacedName, port: int) -> str:
    """`namespace/name:port`, the key of a Destination and of the Service's own Cluster."""
    return f"{service}:{port}"


def address_key(ip: str, port: int) -> str:
    """`ip:port`, IPv6 in brackets, as a proxy writes an original destination."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def counted_ports(service: Service) -> Iterator[Port]:
    """One port per number: where TCP and UDP share one, a destination key means TCP."""
    last = 0
    for port in service.ports:
        if port.port != last:
            yield port
        last = port.port


def port_of(service: Service, number: int) -> Port | None:
    return next((port for port in counted_ports(service) if port.port == number), None)


def cluster_addresses(world: World) -> dict[str, str]:
    """ClusterIP and port → destination key. Of two Services with one address, the first name has it."""
    found: dict[str, str] = {}
    for name in sorted(world.services, reverse=True):
        service = world.services[name]
        for port in counted_ports(service):
            for ip in service.addresses:
                found[address_key(ip, port.port)] = destination_key(name, port.port)
    return found


def split_host(key: str) -> tuple[str, int]:
    """`host:port` → (host in lower case without brackets and trailing dot, port; 0 where there is none)."""
    host, colon, port = key.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or len(port) > 5:
        return "", 0
    number = int(port)
    return (host.strip("[]").lower().removesuffix("."), number) if number <= 65535 else ("", 0)


def lookup_names(host: str, namespace: str, cluster_domain: str) -> Iterator[tuple[str, ...]]:
    """What a host name may mean to a pod of `namespace`, in the order a resolver's search list tries it.

    Yields (service, namespace) and (pod hostname, service, namespace), the latter under headless
    Services. The search list is `<namespace>.svc.<domain>`, `svc.<domain>`, `<domain>`.
    """
    bare = host.removesuffix(f".{cluster_domain}")
    if bare == host:
        yield from _under_svc([*host.split("."), namespace])
        yield from _under_svc(host.split("."))
    labels = bare.split(".")
    if labels[-1] == "svc":
        yield from _under_svc(labels[:-1])


def _under_svc(labels: list[str]) -> Iterator[tuple[str, ...]]:
    if len(labels) in (2, 3) and all(labels):
        yield tuple(labels)


def named_service(names: tuple[str, ...], port: int, known: Mapping[str, object]) -> str | None:
    """The destination key that (service, namespace) stands for, if `known` has it."""
    if len(names) != 2:
        return None
    key = destination_key(NamespacedName(names[1], names[0]), port)
    return key if key in known else None
