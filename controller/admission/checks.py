"""Probes and hooks that the kubelet cannot do itself in a redirected pod: rewritten to ask the sidecar. Pure.

The sidecar answers every connection to a redirected port. So a `tcpSocket` probe would prove nothing of the
app, one by gRPC or HTTPS and a hook by HTTP would be refused. `httpGet` probes pass by their path (S26),
`exec` does not touch the network, and what names a host of its own or an excluded port is not redirected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smi.names import ADMIN_PORT, APP_CHECKS, WITHDRAWN

_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_HOOKS: Final = ("postStart", "preStop")
_HANDLERS: Final = ("httpGet", "tcpSocket", "grpc")
_HOOK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The patch, and what the sidecar is to do: name → check, as `dataplane.appchecks` reads it."""

    patch: tuple[dict[str, Any], ...]
    checks: Mapping[str, Mapping[str, Any]]


def rewrite(spec: Mapping[str, Any], before: int, excluded: frozenset[int], secret: str) -> Rewritten:
    """Point what needs it at the sidecar. `before`: containers put in front of the pod's init containers.

    `secret` is in the path of hooks, which do something: who cannot read the pod cannot call them.
    """
    patch: list[dict[str, Any]] = []
    checks: dict[str, Mapping[str, Any]] = {}
    for path, container in _lasting(spec, before):
        ports = _named_ports(container)
        name = str(container.get("name"))
        for kind in _PROBES:
            probe = container.get(kind) or {}
            check = _check(probe, ports, excluded, probing=True)
            if check is not None:
                key = f"{name}/{kind.removesuffix('Probe')}"
                checks[key] = {**check, "seconds": float(probe.get("timeoutSeconds") or 1)}
                kept = {field: value for field, value in probe.items() if field not in _HANDLERS}
                patch.append({"op": "add", "path": f"{path}/{kind}", "value": {**kept, **_ask(key)}})
        lifecycle = container.get("lifecycle") or {}
        for hook in _HOOKS:
            check = _check(lifecycle.get(hook) or {}, ports, excluded, probing=False)
            if check is not None:
                key = f"{name}/{hook}/{secret}"
                checks[key] = {**check, "seconds": _HOOK_SECONDS}
                patch.append({"op": "add", "path": f"{path}/lifecycle/{hook}", "value": _ask(key)})
    return Rewritten(tuple(patch), checks)


def wait_withdrawn(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Have the kubelet wait, before it ends an app, until nobody calls the pod any more (S33).

    A container with a preStop hook of its own keeps it: it may wait by itself.
    """
    hook = {"httpGet": {"path": WITHDRAWN, "port": ADMIN_PORT, "scheme": "HTTP"}}
    for index, container in enumerate(spec.get("containers") or ()):
        lifecycle = container.get("lifecycle") or {}
        path = f"/spec/containers/{index}/lifecycle"
        if not lifecycle:
            yield {"op": "add", "path": path, "value": {"preStop": hook}}
        elif not lifecycle.get("preStop"):
            yield {"op": "add", "path": f"{path}/preStop", "value": hook}


def _lasting(spec: Mapping[str, Any], before: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Containers that can have probes, with their place in the patched pod."""
    for index, container in enumerate(spec.get("initContainers") or ()):
        if container.get("restartPolicy") == "Always":
            yield f"/spec/initContainers/{index + before}", container
    for index, container in enumerate(spec.get("containers") or ()):
        yield f"/spec/containers/{index}", container


def _named_ports(container: Mapping[str, Any]) -> Mapping[str, int]:
    return {
        str(port["name"]): int(port["containerPort"])
        for port in container.get("ports") or ()
        if port.get("name") and port.get("containerPort")
    }


def _ask(key: str) -> dict[str, Any]:
    return {"httpGet": {"path": APP_CHECKS + key, "port": ADMIN_PORT, "scheme": "HTTP"}}


def _check(
    handler: Mapping[str, Any], ports: Mapping[str, int], excluded: frozenset[int], *, probing: bool
) -> dict[str, Any] | None:
    """What the sidecar is to do instead of the kubelet; None: the kubelet can."""
    kind = next((name for name in _HANDLERS if handler.get(name)), "")
    details = handler.get(kind) or {}
    given = details.get("port")
    port = given if isinstance(given, int) else ports.get(str(given)) or _number(str(given))
    if not kind or details.get("host") or not port or port in excluded:
        return None
    if kind == "tcpSocket":
        return (
            {"kind": "tcp", "port": port} if probing else None
        )  # a hook that connects: deprecated, never run
    if kind == "grpc":
        return {"kind": "grpc", "port": port, "service": str(details.get("service") or "")}
    secure = str(details.get("scheme") or "HTTP").upper() == "HTTPS"
    if probing and not secure:
        return None
    headers = [
        [str(one.get("name")), str(one.get("value") or "")] for one in details.get("httpHeaders") or ()
    ]
    path = str(details.get("path") or "/")
    return {"kind": "https" if secure else "http", "port": port, "path": path, "headers": headers}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
