"""Services, their names and their addresses: where a name or an address leads.

Knows nothing of endpoints (`endpoints.py`) or of SMI objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from controller.compile.world import Port, Service, World
from smi.names import UDP_KEY, NamespacedName

TCP: Final = "TCP"
UDP: Final = "UDP"


def destination_key(service: NamespacedName, port: int, transport: str = TCP) -> str:
    """`namespace/name:port`, for UDP with `udp:` before it: the key of a Destination and of the
    Service's own Cluster. TCP and UDP may share a port number and lead to different pods."""
    return _of(transport, f"{service}:{port}")


def address_key(ip: str, port: int, transport: str = TCP) -> str:
    """`ip:port`, IPv6 in brackets, as a proxy writes an original destination; for UDP `udp:ip:port`."""
    return _of(transport, f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")


def _of(transport: str, key: str) -> str:
    return UDP_KEY + key if transport == UDP else key


def split_transport(key: str) -> tuple[str, str]:
    """A subscription key → (transport, the key without it)."""
    return (UDP, key.removeprefix(UDP_KEY)) if key.startswith(UDP_KEY) else (TCP, key)


def counted_ports(service: Service) -> Iterator[Port]:
    """The first port of each number and transport; an API server lets no second one in."""
    last = (0, "")
    for port in service.ports:
        if (port.port, port.transport) != last:
            yield port
        last = (port.port, port.transport)


def port_of(service: Service, number: int, transport: str = TCP) -> Port | None:
    found = (port for port in counted_ports(service) if (port.port, port.transport) == (number, transport))
    return next(found, None)


def cluster_addresses(world: World) -> dict[str, str]:
    """ClusterIP and port → destination key. Of two Services with one address, the first name has it."""
    found: dict[str, str] = {}
    for name in sorted(world.services, reverse=True):
        service = world.services[name]
        for port in counted_ports(service):
            for ip in service.addresses:
                key = destination_key(name, port.port, port.transport)
                found[address_key(ip, port.port, port.transport)] = key
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


def named_service(
    names: tuple[str, ...], port: int, known: Mapping[str, object], transport: str = TCP
) -> str | None:
    """The destination key that (service, namespace) stands for, if `known` has it."""
    if len(names) != 2:
        return None
    key = destination_key(NamespacedName(names[1], names[0]), port, transport)
    return key if key in known else None
