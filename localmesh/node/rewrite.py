"""What loopback mode does to commands and environments, because nothing can be mounted or resolved. Pure.

A value that begins with a mountPath gets the real directory instead; a value that is exactly the DNS name
of a Service gets its ClusterIP (there is no DNS server; a name inside a URL stays, the sidecar knows it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from localmesh.node.process import Mount


def real_path(text: str, mounts: Iterable[Mount]) -> str:
    """`text` with a leading mountPath replaced, also behind `--flag=`."""
    head, equals, value = text.partition("=") if text.startswith("-") else ("", "", text)
    for mount in sorted(mounts, key=lambda mount: -len(mount.target)):
        target = mount.target.rstrip("/")
        if value == target or value.startswith(target + "/"):
            return f"{head}{equals}{mount.source}{value[len(target) :]}"
    return text


def loopback_command(argv: Iterable[str], mounts: Iterable[Mount]) -> tuple[str, ...]:
    known = tuple(mounts)
    return tuple(real_path(word, known) for word in argv)


def loopback_env(
    env: Mapping[str, str], mounts: Iterable[Mount], services: Iterable[Mapping[str, Any]], domain: str
) -> dict[str, str]:
    known = tuple(mounts)
    names = service_addresses(services, domain)
    return {key: names.get(value.rstrip("."), real_path(value, known)) for key, value in env.items()}


def service_addresses(services: Iterable[Mapping[str, Any]], domain: str) -> dict[str, str]:
    """ClusterIP by `name.namespace.svc` and `name.namespace.svc.<domain>`."""
    found: dict[str, str] = {}
    for service in services:
        address = (service.get("spec") or {}).get("clusterIP")
        if address and address != "None":
            name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
            found[name] = found[f"{name}.{domain}"] = address
    return found
