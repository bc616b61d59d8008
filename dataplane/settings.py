"""What the injector tells a sidecar through its environment, checked once at start.

Pure: reads the mapping it is given. Every error names the variable, what it held and what it
should hold, because the one who reads it has only the container's log.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from smi import names

DEFAULT_CONTROLLER: Final = f"{names.CONTROLLER_NAME}.{names.SYSTEM_NAMESPACE}.svc"
DEFAULT_TOKEN_FILE: Final = "/var/run/secrets/smi-mesh/token"
DEFAULT_DRAIN_SECONDS: Final = 20.0
DEFAULT_UDP_IDLE_SECONDS: Final = 30.0
DEFAULT_WITHDRAW_SECONDS: Final = 10.0
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")
CHECK_KINDS: Final = ("tcp", "grpc", "http", "https")
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
class Check:
    """A probe or hook of one of the app's containers that the kubelet leaves to the sidecar."""

    kind: str
    port: int
    seconds: float
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    service: str = ""


@dataclass(frozen=True, slots=True)
class CollectorUrl:
    """Where spans are POSTed to; `str()` is the URL."""

    host: str
    port: int
    path: str
    secure: bool = False

    @property
    def authority(self) -> str:
        """`host:port`, as a Host field says it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class Tracing:
    """How this sidecar takes part in traces."""

    url: CollectorUrl
    protocol: str = names.TRACE_PROTOCOLS[0]
    """One of `smi.names.TRACE_PROTOCOLS`."""
    share: float = 0.01
    """Of the traces that begin here, those that are sampled."""
    forms: tuple[str, ...] = names.trace_forms(names.DEFAULT_TRACE_FORMS)
    """How a trace that begins here is told on."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """More fields of the requests to the collector: a token, perhaps."""
    ca: str = field(default="", repr=False)
    """PEM certificates that the collector's must chain to; empty: the system's."""


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
    tracing: Tracing | None = None
    """None: trace context passes untouched, and there are no spans."""
    discovery_port: int = names.DISCOVERY_PORT
    identity_port: int = names.IDENTITY_PORT
    outbound_port: int = names.OUTBOUND_PORT
    inbound_port: int = names.INBOUND_PORT
    mesh_port: int = names.MESH_PORT
    admin_port: int = names.ADMIN_PORT
    workers: int = 1
    """Processes that serve; more than one share the listeners (docs/adr/0016-workers.md)."""
    app_checks: Mapping[str, Check] = field(default_factory=dict, repr=False)
    """Probes and hooks of the app's containers that the kubelet has the sidecar do, by name."""
    withdraw_seconds: float = DEFAULT_WITHDRAW_SECONDS
    """How long `/withdrawn` waits at most for callers to know that the pod ends."""
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    """How long exchanges in flight may take after SIGTERM; keep below the pod's grace period."""

    @property
    def pod_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.pod}"

    @property
    def counting(self) -> bool:
        """Whether requests are counted at all."""
        return self.metrics != (names.NO_METRICS,)

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
        tracing=_tracing(given),
        workers=worker_count("SMI_MESH_WORKERS", given.get("SMI_MESH_WORKERS", "")),
        app_checks=_app_checks(given),
        withdraw_seconds=_seconds(given, "SMI_MESH_WITHDRAW_SECONDS", DEFAULT_WITHDRAW_SECONDS),
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


def _app_checks(given: Mapping[str, str]) -> Mapping[str, Check]:
    try:
        return app_checks(given.get("SMI_MESH_APP_CHECKS", ""))
    except ValueError as error:
        raise SettingsError(f"SMI_MESH_APP_CHECKS: {error}") from None


def app_checks(text: str) -> Mapping[str, Check]:
    """Name → check, from the injector's JSON. Raises ValueError."""
    found = json.loads(text) if text else {}
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return {name: _check(name, entry) for name, entry in found.items()}


def _check(name: str, entry: Any) -> Check:
    try:
        headers = tuple((str(one), str(value)) for one, value in entry.get("headers", ()))
        check = Check(
            str(entry["kind"]),
            int(entry["port"]),
            float(entry["seconds"]),
            str(entry.get("path", "/")),
            headers,
            str(entry.get("service", "")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error!r}") from None
    if check.kind not in CHECK_KINDS or not 0 < check.port < 65536 or not 0 < check.seconds <= 3600:
        raise ValueError(f"{name}: expected one of {', '.join(CHECK_KINDS)}, a port and seconds up to 3600")
    if not all(text.isprintable() for text in (check.path, *(word for pair in headers for word in pair))):
        raise ValueError(f"{name}: a path or header with control characters")
    return check


def _access_log(given: Mapping[str, str]) -> names.AccessLogging | None:
    try:
        return names.access_logging(given.get("SMI_MESH_ACCESS_LOG", ""))
    except ValueError as error:
        raise SettingsError(f"SMI_MESH_ACCESS_LOG: {error}") from None


def _tracing(given: Mapping[str, str]) -> Tracing | None:
    """None without a collector, or where sampling is off."""
    url = given.get("SMI_MESH_TRACING", "")
    try:
        share = names.trace_share(given.get("SMI_MESH_TRACE_SAMPLING") or names.DEFAULT_TRACE_SAMPLING)
    except ValueError as error:
        raise SettingsError(f"SMI_MESH_TRACE_SAMPLING: {error}") from None
    if not url or share is None:
        return None
    protocol = given.get("SMI_MESH_TRACING_PROTOCOL") or names.TRACE_PROTOCOLS[0]
    if protocol not in names.TRACE_PROTOCOLS:
        raise SettingsError(
            f"SMI_MESH_TRACING_PROTOCOL must be {' or '.join(names.TRACE_PROTOCOLS)}, got {protocol[:40]!r}"
        )
    try:
        forms = names.trace_forms(given.get("SMI_MESH_TRACE_CONTEXT") or names.DEFAULT_TRACE_FORMS)
    except ValueError as error:
        raise SettingsError(f"SMI_MESH_TRACE_CONTEXT: {error}") from None
    ca = given.get("SMI_MESH_TRACING_CA", "")
    if ca and _PEM_BEGIN not in ca:
        raise SettingsError("SMI_MESH_TRACING_CA must hold PEM text with at least one certificate")
    return Tracing(_collector(url, protocol), protocol, share, forms, _collector_fields(given), ca)


_DEFAULT_PATHS: Final = {"otlp": "/v1/traces", "zipkin": "/api/v2/spans"}
_PATH: Final = re.compile(r"/[!-~]*")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE: Final = re.compile(r"[\x20-\x7e]*")


def _collector(url: str, protocol: str) -> CollectorUrl:
    """A URL without a path gets the protocol's own. Raises SettingsError, without what may be secret."""
    problem = (
        "SMI_MESH_TRACING must be a URL such as http://otel-collector.observability:4318, "
        "without user or query"
    )
    try:
        parts = urlsplit(url)
        given_port = parts.port
    except ValueError:
        raise SettingsError(problem) from None
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise SettingsError(problem)
    secure = parts.scheme == "https"
    path = _DEFAULT_PATHS[protocol] if parts.path in ("", "/") else parts.path
    if _PATH.fullmatch(path) is None or not (host.isascii() and host.isprintable()):
        raise SettingsError(problem)
    return CollectorUrl(host, given_port or (443 if secure else 80), path, secure)


def _collector_fields(given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """`name=value,name=value`, percent-encoded, as OTEL_EXPORTER_OTLP_HEADERS has them.

    Raises SettingsError.
    """
    found: list[tuple[str, str]] = []
    for part in given.get("SMI_MESH_TRACING_HEADERS", "").split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        value = unquote(value)
        if not equals or _FIELD_NAME.fullmatch(name) is None or _FIELD_VALUE.fullmatch(value) is None:
            raise SettingsError(
                "SMI_MESH_TRACING_HEADERS must hold name=value pairs with commas between them; "
                f"pair {len(found) + 1} is none"  # its value may be secret
            )
        found.append((name, value))
    return tuple(found)


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
