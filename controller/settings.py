"""What the controller is told by its environment, as one frozen value.

Read once by the composition root. Knows names and defaults only: no sockets, no Kubernetes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import urlsplit

from smi.names import (
    CONTROLLER_ADMIN_PORT,
    CONTROLLER_NAME,
    DEFAULT_CLUSTER_DOMAIN,
    DEFAULT_METRICS,
    DEFAULT_TRACE_FORMS,
    DEFAULT_TRACE_SAMPLING,
    DEFAULT_TRUST_DOMAIN,
    DISCOVERY_PORT,
    IDENTITY_PORT,
    MAX_WORKERS,
    SYSTEM_NAMESPACE,
    TRACE_PROTOCOLS,
    TRAFFIC_PORT,
    WEBHOOK_PORT,
    access_logging,
    metrics_dialects,
    trace_forms,
    trace_share,
)

VERSION: Final = "0.1.0"
"""Version of the control plane; the default proxy image carries the same tag."""
DEFAULT_PROXY_IMAGE: Final = f"smi-mesh/proxy:{VERSION}"
CA_SECRET: Final = "smi-mesh-ca"
DEFAULT_UDP_IDLE_SECONDS: Final = 30
QUANTITY: Final = r"[0-9]{1,15}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?"
"""The quantities of CPU and memory that are taken, a part of what Kubernetes' own pattern allows."""
OBJECT_NAME: Final = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_DAY: Final = 86_400.0

_Choice = TypeVar("_Choice", bound=StrEnum)


class SettingsError(ValueError):
    """A variable of the environment has a value the controller cannot use; says which and what would do."""


class Interception(StrEnum):
    """How an app's traffic gets into its sidecar."""

    IPTABLES = "iptables"
    """Redirected in the pod's network namespace by the init container."""
    EXPLICIT = "explicit"
    """The app is told to use the sidecar as its HTTP proxy (no redirect possible)."""


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a container asks for and may use at most, as Kubernetes writes quantities."""

    cpu_request: str
    memory_request: str
    memory_limit: str


@dataclass(frozen=True, slots=True)
class Tracing:
    """How sidecars take part in traces."""

    url: str = ""
    """Where spans go; empty: nowhere, and sidecars leave trace context alone."""
    protocol: str = TRACE_PROTOCOLS[0]
    """One of `smi.names.TRACE_PROTOCOLS`."""
    sampling: str = DEFAULT_TRACE_SAMPLING
    """For pods that do not say it themselves, as `smi.names.trace_share` reads it."""
    context: str = DEFAULT_TRACE_FORMS
    """As `smi.names.trace_forms` reads it."""
    secret: str = ""
    """Name of a Secret, in each pod's namespace, with `headers` for the collector and its CA in `ca.crt`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Durations are in seconds, ports are TCP."""

    bind: str = "0.0.0.0"  # noqa: S104 - in a pod every interface is the pod's own; loopback mode overrides it
    """Address that all listeners bind to."""
    discovery_port: int = DISCOVERY_PORT
    identity_port: int = IDENTITY_PORT
    admin_port: int = CONTROLLER_ADMIN_PORT
    webhook_port: int = WEBHOOK_PORT
    traffic_port: int = TRAFFIC_PORT
    pod_ip: str = ""
    """This pod's own address; put into the serving certificate where known."""
    controller: str = f"{CONTROLLER_NAME}.{SYSTEM_NAMESPACE}.svc"
    """Host name or address by which sidecars reach this controller."""
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN
    leaf_seconds: float = _DAY
    """Life of a workload certificate."""
    prometheus: str = ""
    """URL of a Prometheus that TrafficMetrics are read from; empty: from the sidecars themselves."""
    proxy_image: str = DEFAULT_PROXY_IMAGE
    proxy_pull_policy: str = "IfNotPresent"
    proxy_log_level: LogLevel = LogLevel.INFO
    interception: Interception = Interception.IPTABLES
    udp: bool = True
    """Whether sidecars intercept UDP, where they intercept at all."""
    metrics: str = DEFAULT_METRICS
    """Dialects of the sidecars' metrics."""
    proxy_workers: int = 1
    """Processes of a sidecar that serve, for pods that do not say it themselves; so the next two."""
    proxy_access_log: str = ""
    """As `smi.names.access_logging` reads it; empty: none."""
    proxy_udp_idle_seconds: int = DEFAULT_UDP_IDLE_SECONDS
    proxy_resources: Resources = Resources("10m", "64Mi", "256Mi")
    tracing: Tracing = Tracing()
    log_level: LogLevel = LogLevel.INFO
    quiet_seconds: float = 0.02
    """The world is compiled once nothing has changed for this long …"""
    holdoff_seconds: float = 0.1
    """… or this long after the first change, whichever is sooner."""
    drain_seconds: float = 5.0
    """How long exchanges in flight may take at shutdown."""


def read_settings(env: Mapping[str, str]) -> Settings:
    """Settings from environment variables; an unset or empty variable means its default.

    Raises SettingsError that names the variable. See docs of each field of Settings.
    """
    read, usual = _Reader(env), Settings().proxy_resources
    interception = read.choice("SMI_MESH_INTERCEPTION", Interception, Interception.IPTABLES)
    pod_ip = read.address("POD_IP", "")
    # Without network namespaces every pod shares the host's addresses: bind to our own only.
    bind = pod_ip if interception is Interception.EXPLICIT and pod_ip else Settings().bind
    return Settings(
        bind=read.address("SMI_MESH_BIND", bind),
        discovery_port=read.port("SMI_MESH_DISCOVERY_PORT", DISCOVERY_PORT),
        identity_port=read.port("SMI_MESH_IDENTITY_PORT", IDENTITY_PORT),
        admin_port=read.port("SMI_MESH_ADMIN_PORT", CONTROLLER_ADMIN_PORT),
        webhook_port=read.port("SMI_MESH_WEBHOOK_PORT", WEBHOOK_PORT),
        traffic_port=read.port("SMI_MESH_TRAFFIC_PORT", TRAFFIC_PORT),
        pod_ip=pod_ip,
        controller=read.text("SMI_MESH_CONTROLLER", Settings().controller),
        trust_domain=read.text("SMI_MESH_TRUST_DOMAIN", DEFAULT_TRUST_DOMAIN),
        cluster_domain=read.text("SMI_MESH_CLUSTER_DOMAIN", DEFAULT_CLUSTER_DOMAIN),
        leaf_seconds=read.seconds("SMI_MESH_LEAF_SECONDS", _DAY, least=2.0),
        prometheus=read.url("SMI_MESH_PROMETHEUS"),
        proxy_image=read.text("SMI_MESH_PROXY_IMAGE", DEFAULT_PROXY_IMAGE),
        proxy_pull_policy=read.text("SMI_MESH_PROXY_PULL_POLICY", "IfNotPresent"),
        proxy_log_level=read.choice("SMI_MESH_PROXY_LOG_LEVEL", LogLevel, LogLevel.INFO),
        interception=interception,
        udp=read.choice("SMI_MESH_UDP", Switch, Switch.ON) is Switch.ON,
        metrics=read.dialects("SMI_MESH_METRICS"),
        proxy_workers=read.count("SMI_MESH_PROXY_WORKERS", 1, MAX_WORKERS),
        proxy_access_log=read.access_log("SMI_MESH_PROXY_ACCESS_LOG"),
        proxy_udp_idle_seconds=read.count("SMI_MESH_PROXY_UDP_IDLE_SECONDS", DEFAULT_UDP_IDLE_SECONDS, 3600),
        proxy_resources=Resources(
            cpu_request=read.quantity("SMI_MESH_PROXY_CPU_REQUEST", usual.cpu_request),
            memory_request=read.quantity("SMI_MESH_PROXY_MEMORY_REQUEST", usual.memory_request),
            memory_limit=read.quantity("SMI_MESH_PROXY_MEMORY_LIMIT", usual.memory_limit),
        ),
        tracing=Tracing(
            url=read.url("SMI_MESH_TRACING"),
            protocol=read.one_of("SMI_MESH_TRACING_PROTOCOL", TRACE_PROTOCOLS),
            sampling=read.trace_sampling("SMI_MESH_TRACE_SAMPLING"),
            context=read.trace_context("SMI_MESH_TRACE_CONTEXT"),
            secret=read.object_name("SMI_MESH_TRACING_SECRET"),
        ),
        log_level=read.choice("SMI_MESH_LOG_LEVEL", LogLevel, LogLevel.INFO),
        quiet_seconds=read.seconds("SMI_MESH_QUIET_SECONDS", 0.02),
        holdoff_seconds=read.seconds("SMI_MESH_HOLDOFF_SECONDS", 0.1),
        drain_seconds=read.seconds("SMI_MESH_DRAIN_SECONDS", 5.0),
    )


class _Reader:
    """Typed access to the environment, with messages that say what to change."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str, default: str) -> str:
        return self._env.get(name, "").strip() or default

    def url(self, name: str) -> str:
        text = self.text(name, "")
        parts = urlsplit(text)
        if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
            raise SettingsError(f"{name}: expected a URL such as http://prometheus:9090, got {text!r}")
        return text

    def address(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if text:
            try:
                ipaddress.ip_address(text)
            except ValueError:
                raise SettingsError(f"{name}: expected an IP address, got {text!r}") from None
        return text

    def port(self, name: str, default: int) -> int:
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text) <= 65535):
            raise SettingsError(f"{name}: expected a port number up to 65535, got {text!r}")
        return int(text)

    def count(self, name: str, default: int, most: int) -> int:
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= most):
            raise SettingsError(f"{name}: expected a whole number from 1 to {most}, got {text[:40]!r}")
        return int(text)

    def quantity(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not re.fullmatch(QUANTITY, text, re.ASCII):
            raise SettingsError(f"{name}: expected a quantity such as 100m or 64Mi, got {text[:40]!r}")
        return text

    def access_log(self, name: str) -> str:
        """The text if it asks for a log, empty if not."""
        text = self.text(name, "")
        try:
            return text if access_logging(text) is not None else ""
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None

    def dialects(self, name: str) -> str:
        try:
            return ",".join(metrics_dialects(self.text(name, DEFAULT_METRICS)))
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None

    def one_of(self, name: str, choices: Sequence[str]) -> str:
        """One of some texts; the first is the default."""
        text = self.text(name, choices[0])
        if text not in choices:
            raise SettingsError(f"{name}: expected one of {', '.join(choices)}, got {text[:40]!r}")
        return text

    def trace_sampling(self, name: str) -> str:
        text = self.text(name, DEFAULT_TRACE_SAMPLING)
        try:
            trace_share(text)
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None
        return text

    def trace_context(self, name: str) -> str:
        try:
            return ",".join(trace_forms(self.text(name, DEFAULT_TRACE_FORMS)))
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None

    def object_name(self, name: str) -> str:
        """Name of a Kubernetes object (RFC 1123 subdomain), or nothing."""
        text = self.text(name, "")
        if text and not re.fullmatch(OBJECT_NAME, text, re.ASCII):
            raise SettingsError(f"{name}: expected the name of an object, got {text[:40]!r}")
        return text

    def seconds(self, name: str, default: float, *, least: float = 0.0) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value < float("inf"):
            raise SettingsError(f"{name}: expected a number of seconds of at least {least:g}, got {text!r}")
        return value

    def choice(self, name: str, kind: type[_Choice], default: _Choice) -> _Choice:
        text = self.text(name, default.value).lower()
        try:
            return kind(text)
        except ValueError:
            wanted = ", ".join(choice.value for choice in kind)
            raise SettingsError(f"{name}: expected one of {wanted}, got {text!r}") from None
