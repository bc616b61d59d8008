"""A container's environment and command line, as the kubelet computes them.

Pure: the ConfigMaps and Secrets it needs are named by `references` and handed in by the caller.
Sources: core/v1 EnvVar, EnvFromSource, and the `$(VAR)` rule of the Kubernetes documentation ("Define
dependent environment variables"): unknown references stay as they are, `$$` is a literal `$`.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_REFERENCE: Final = re.compile(r"\$(\$|\(([^()]*)\))")
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_QUANTITY: Final = re.compile(r"([0-9.]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_SCALE: Final = {"": 1.0, "m": 1e-3} | {
    suffix: base**power
    for base, suffixes in (
        (1000.0, ("k", "M", "G", "T", "P", "E")),
        (1024.0, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")),
    )
    for power, suffix in enumerate(suffixes, 1)
}


class ConfigError(ValueError):
    """A container cannot be configured (reason CreateContainerConfigError); the message names the field."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Objects that env and volumes refer to, by name in the pod's namespace; absent ones are left out."""

    config_maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def references(container: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Names of the (ConfigMaps, Secrets) a container's env and envFrom mention."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    sources = [item.get("valueFrom") or {} for item in container.get("env") or ()]
    for source in [*sources, *(container.get("envFrom") or ())]:
        for kind, names in (("configMap", config_maps), ("secret", secrets)):
            reference = source.get(f"{kind}KeyRef") or source.get(f"{kind}Ref")
            if reference:
                names.add(reference.get("name", ""))
    return config_maps, secrets


def expand(text: str, env: Mapping[str, str]) -> str:
    """Substitute `$(NAME)` from `env`; `$$(NAME)` gives `$(NAME)`."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return env.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def container_env(
    container: Mapping[str, Any], pod: Mapping[str, Any], sources: Sources, base: Mapping[str, str]
) -> dict[str, str]:
    """`base` (image, service links) overlaid by envFrom, overlaid by env in order. Raises ConfigError."""
    env = dict(base)
    for source in container.get("envFrom") or ():
        env.update(_env_from(source, sources))
    for item in container.get("env") or ():
        name = item["name"]
        if item.get("valueFrom"):
            value = _value_from(item["valueFrom"], container, pod, sources, f"env {name!r}")
            if value is None:
                continue
            env[name] = value
        else:
            env[name] = expand(item.get("value") or "", env)
    return env


def _env_from(source: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for kind in ("configMap", "secret"):
        reference = source.get(f"{kind}Ref")
        if reference:
            data = _data(kind, reference, sources)
            if data is None:
                return {}
            return {prefix + key: value.decode(errors="replace") for key, value in data.items()}
    return {}


def object_data(kind: str, value: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of a ConfigMap ("configMap") or Secret ("secret") by key."""
    if kind == "secret":
        return {key: base64.b64decode(text) for key, text in (value.get("data") or {}).items()}
    data = {key: text.encode() for key, text in (value.get("data") or {}).items()}
    return data | {key: base64.b64decode(text) for key, text in (value.get("binaryData") or {}).items()}


def _data(kind: str, reference: Mapping[str, Any], sources: Sources) -> dict[str, bytes] | None:
    objects = sources.secrets if kind == "secret" else sources.config_maps
    name = reference.get("name", "")
    if name in objects:
        return object_data(kind, objects[name])
    if reference.get("optional"):
        return None
    raise ConfigError(f"{kind.lower()} {name!r} not found")


def _value_from(
    source: Mapping[str, Any],
    container: Mapping[str, Any],
    pod: Mapping[str, Any],
    sources: Sources,
    where: str,
) -> str | None:
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"].get("fieldPath", ""), where)
    if "resourceFieldRef" in source:
        return resource_value(container, source["resourceFieldRef"], where)
    for kind in ("configMap", "secret"):
        reference = source.get(f"{kind}KeyRef")
        if reference:
            data = _data(kind, reference, sources) or {}
            key = reference.get("key", "")
            if key in data:
                return data[key].decode(errors="replace")
            if reference.get("optional"):
                return None
            raise ConfigError(f"{where}: key {key!r} not found in {kind.lower()} {reference.get('name')!r}")
    raise ConfigError(f"{where}: valueFrom needs fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef")


def field_value(pod: Mapping[str, Any], path: str, where: str) -> str:
    """A downward API field; `metadata.labels` and `.annotations` whole give `key="value"` lines (volumes)."""
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    match = _SUBSCRIPT.fullmatch(path)
    if match:
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = meta.get(path.partition(".")[2]) or {}
        return "\n".join(f'{key}="{_escaped(value)}"' for key, value in sorted(values.items()))
    simple = {
        "metadata.name": meta.get("name"),
        "metadata.namespace": meta.get("namespace"),
        "metadata.uid": meta.get("uid"),
        "spec.nodeName": spec.get("nodeName"),
        "spec.serviceAccountName": spec.get("serviceAccountName"),
        "status.hostIP": status.get("hostIP"),
        "status.hostIPs": status.get("hostIP"),
        "status.podIP": status.get("podIP"),
        "status.podIPs": status.get("podIP"),
    }
    if path not in simple:
        raise ConfigError(
            f"{where}: unsupported fieldPath {path!r}; supported are {', '.join(sorted(simple))}"
        )
    return str(simple[path] or "")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(container: Mapping[str, Any], reference: Mapping[str, Any], where: str) -> str:
    """limits/requests of the container, or the machine's size when none is set, divided and rounded up."""
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or resource not in ("cpu", "memory", "ephemeral-storage"):
        raise ConfigError(f"{where}: unsupported resource {reference.get('resource')!r}")
    resources = container.get("resources") or {}
    text = (resources.get(kind) or {}).get(resource) or (resources.get("limits") or {}).get(resource)
    amount = quantity(str(text), where) if text else _capacity(resource)
    divisor = quantity(str(reference.get("divisor") or "1"), where) or 1.0
    return str(math.ceil(amount / divisor))


def _capacity(resource: str) -> float:
    if resource == "cpu":
        return float(os.cpu_count() or 1)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def quantity(text: str, where: str) -> float:
    """A resource quantity as a float; raises ConfigError."""
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ConfigError(f"{where}: not a quantity: {text!r}")
    return float(match[1]) * _SCALE[match[2] or ""]


def service_links(services: list[dict[str, Any]]) -> dict[str, str]:
    """The `<NAME>_SERVICE_HOST`/`_PORT` variables of the services of a pod's namespace."""
    env: dict[str, str] = {}
    for service in services:
        spec = service.get("spec") or {}
        address, ports = spec.get("clusterIP"), spec.get("ports") or []
        if not address or address == "None" or not ports:
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        env[f"{name}_SERVICE_HOST"] = address
        env[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                env[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    return env
