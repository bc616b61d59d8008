"""What the injector tells a sidecar through its environment, checked once at start.

Pure: reads the mapping it is given. Every error names the variable, what it held and what it
should hold, because the one who reads it has only the container's log.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from smi import names

DEFAULT_CONTROLLER: Final = f"{names.CONTROLLER_NAME}.{names.SYSTEM_NAMESPACE}.svc"
DEFAULT_TOKEN_FILE: Final = "/var/run/secrets/smi-mesh/token"
DEFAULT_DRAIN_SECONDS: Final = 20.0
DEFAULT_UDP_IDLE_SECONDS: Final = 30.0
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


class SettingsError(ValueError):
    """A variable is missing or not understood; the message names it."""


class Interception(StrEnum):
    """How the app's connections reach the sidecar."""

    IPTABLES = "iptables"
    """Redirected in the pod's network namespace; the original destination is asked of the kernel."""
    EXPLICIT = "explicit"
    """The app uses the sidecar as its HTTP proxy; pods share the host's network namespace."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One sidecar's settings. Ports and times have defaults; tests and odd platforms override them."""

    namespace: str
    pod: str
    pod_ip: str
    """Where the app listens, and in explicit mode the sidecar too."""
    trust_bundle: str = field(repr=False)
    """PEM certificates of the mesh's CA, which every connection to the controller must chain to."""
    controller: str = DEFAULT_CONTROLLER
    """Host name or address of the controller, without port."""
    trust_domain: str = names.DEFAULT_TRUST_DOMAIN
    cluster_domain: str = names.DEFAULT_CLUSTER_DOMAIN
    token_file: str = DEFAULT_TOKEN_FILE
    interception: Interception = Interception.IPTABLES
    exclude_inbound: frozenset[int] = frozenset()
    exclude_outbound: frozenset[int] = frozenset()
    udp: bool = False
    """Whether the redirect intercepts UDP: then the sidecar must be able to take it (CAP_NET_RAW)."""
    udp_idle_seconds: float = DEFAULT_UDP_IDLE_SECONDS
    """A UDP flow without a datagram either way for so long is forgotten."""
    log_level: str = "info"
    workload: str = ""
    """What the pod is an instance of, as `smi.names.Workload` writes it: for telemetry only."""
    metrics: tuple[str, ...] = names.metrics_dialects(names.DEFAULT_METRICS)
    """Dialects that a scrape gets unless it asks for others."""
    access_log: names.AccessLogging | None = None
    """Which requests are logged to standard output; None: none."""
    discovery_port: int = names.DISCOVERY_PORT
    identity_port: int = names.IDENTITY_PORT
    outbound_port: int = names.OUTBOUND_PORT
    inbound_port: int = names.INBOUND_PORT
    mesh_port: int = names.MESH_PORT
    admin_port: int = names.ADMIN_PORT
    workers: int = 1
    """Processes that serve; more than one share the listeners (docs/adr/0016-workers.md)."""
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    """How long exchanges in flight may take after SIGTERM; keep below the pod's grace period."""

    @property
    def pod_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.pod}"

    @property
    def bind(self) -> str:
        """Address that the listeners bind to."""
        if self.interception is Interception.IPTABLES:
            return "0.0.0.0"  # noqa: S104 - the pod has a network namespace of its own
        return self.pod_ip

    @property
    def controller_identity(self) -> str:
        """The SPIFFE id the controller must prove."""
        return names.ServiceIdentity(self.trust_domain, names.SYSTEM_NAMESPACE, names.CONTROLLER_NAME).uri


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Read the environment the injector writes; raises SettingsError. An empty value counts as unset."""
    given = {name: value.strip() for name, value in environ.items()}
    return Settings(
        namespace=_required(given, "POD_NAMESPACE"),
        pod=_required(given, "POD_NAME"),
        pod_ip=_address(given, "POD_IP"),
        trust_bundle=_bundle(given, "SMI_MESH_TRUST_BUNDLE"),
        controller=given.get("SMI_MESH_CONTROLLER") or DEFAULT_CONTROLLER,
        trust_domain=given.get("SMI_MESH_TRUST_DOMAIN") or names.DEFAULT_TRUST_DOMAIN,
        cluster_domain=given.get("SMI_MESH_CLUSTER_DOMAIN") or names.DEFAULT_CLUSTER_DOMAIN,
        token_file=given.get("SMI_MESH_TOKEN_FILE") or DEFAULT_TOKEN_FILE,
        interception=_interception(given),
        exclude_inbound=port_list(given, "SMI_MESH_EXCLUDE_INBOUND"),
        exclude_outbound=port_list(given, "SMI_MESH_EXCLUDE_OUTBOUND"),
        udp=switch(given, "SMI_MESH_UDP"),
        udp_idle_seconds=_seconds(given, "SMI_MESH_UDP_IDLE_SECONDS", DEFAULT_UDP_IDLE_SECONDS),
        log_level=_log_level(given),
        workload=given.get("SMI_MESH_WORKLOAD", ""),
        metrics=_metrics(given),
        access_log=_access_log(given),
        workers=worker_count("SMI_MESH_WORKERS", given.get("SMI_MESH_WORKERS", "")),
        drain_seconds=_seconds(given, "SMI_MESH_DRAIN_SECONDS", DEFAULT_DRAIN_SECONDS),
        discovery_port=port(given, "SMI_MESH_DISCOVERY_PORT", names.DISCOVERY_PORT),
        identity_port=port(given, "SMI_MESH_IDENTITY_PORT", names.IDENTITY_PORT),
        outbound_port=port(given, "SMI_MESH_OUTBOUND_PORT", names.OUTBOUND_PORT),
        inbound_port=port(given, "SMI_MESH_INBOUND_PORT", names.INBOUND_PORT),
        mesh_port=port(given, "SMI_MESH_MESH_PORT", names.MESH_PORT),
        admin_port=port(given, "SMI_MESH_ADMIN_PORT", names.ADMIN_PORT),
    )


def _metrics(given: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return names.metrics_dialects(given.get("SMI_MESH_METRICS") or names.DEFAULT_METRICS)
    except ValueError as error:
        raise SettingsError(f"SMI_MESH_METRICS: {error}") from None


def _access_log(given: Mapping[str, str]) -> names.AccessLogging | None:
    try:
        return names.access_logging(given.get("SMI_MESH_ACCESS_LOG", ""))
    except ValueError as error:
        raise SettingsError(f"SMI_MESH_ACCESS_LOG: {error}") from None


def worker_count(name: str, text: str) -> int:
    """The number of workers that `name` holds, 1 if it is empty; raises SettingsError."""
    if not text:
        return 1
    if not (text.isascii() and text.isdigit() and 0 < int(text[:4]) <= names.MAX_WORKERS):
        raise SettingsError(
            f"{name} must be a number of processes from 1 to {names.MAX_WORKERS}, got {text[:40]!r}"
        )
    return int(text)


def port(given: Mapping[str, str], name: str, default: int) -> int:
    """The port number in variable `name`; raises SettingsError."""
    text = given.get(name, "").strip()
    return _port_number(name, text) if text else default


def port_list(given: Mapping[str, str], name: str) -> frozenset[int]:
    """The comma-separated port numbers in variable `name`; raises SettingsError."""
    parts = (part.strip() for part in given.get(name, "").split(","))
    return frozenset(_port_number(name, part) for part in parts if part)


def switch(given: Mapping[str, str], name: str) -> bool:
    """The `on` or `off` (or nothing, which is off) in variable `name`; raises SettingsError."""
    text = given.get(name, "").strip().lower()
    if text not in ("", "on", "off"):
        raise SettingsError(f"{name} must be on or off, got {text[:40]!r}")
    return text == "on"


def _port_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise SettingsError(f"{name} must hold port numbers from 1 to 65535, got {text[:40]!r}")
    return int(text)


def _required(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set; the injector sets it on every sidecar")
    return value


def _address(given: Mapping[str, str], name: str) -> str:
    text = _required(given, name)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SettingsError(f"{name} must be an IP address, got {text!r}") from None


def _bundle(given: Mapping[str, str], name: str) -> str:
    text = _required(given, name)
    if _PEM_BEGIN not in text:
        raise SettingsError(f"{name} must hold PEM text with at least one certificate")
    return text + "\n"


def _interception(given: Mapping[str, str]) -> Interception:
    text = given.get("SMI_MESH_INTERCEPTION") or Interception.IPTABLES
    try:
        return Interception(text)
    except ValueError:
        choices = " or ".join(Interception)
        raise SettingsError(f"SMI_MESH_INTERCEPTION must be {choices}, got {text!r}") from None


def _log_level(given: Mapping[str, str]) -> str:
    level = (given.get("SMI_MESH_LOG_LEVEL") or "info").lower()
    if level not in _LOG_LEVELS:
        raise SettingsError(f"SMI_MESH_LOG_LEVEL must be one of {', '.join(_LOG_LEVELS)}, got {level!r}")
    return level


def _seconds(given: Mapping[str, str], name: str, default: float) -> float:
    text = given.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise SettingsError(f"{name} must be a number of seconds from 0 to 3600, got {text!r}")
    return seconds
