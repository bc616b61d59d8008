"""Value types and fixed names that every package shares.

This module knows nothing but the standard library: no I/O, no Kubernetes client, no policy.
The strings below are the mesh's public vocabulary (labels, annotations, ports); both planes
and the documentation use these and no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

# --- ports of a meshed pod -------------------------------------------------------------------
OUTBOUND_PORT: Final = 15001
"""Outbound listener: intercepted connections, and explicit proxy requests (absolute form, CONNECT)."""
INBOUND_PORT: Final = 15006
"""Plain inbound listener: what the redirect catches from callers outside the mesh."""
MESH_PORT: Final = 15008
"""Inbound listener for mTLS between proxies; the target port travels in SNI."""
ADMIN_PORT: Final = 15020
"""Admin listener: /ready, /live, /metrics, /config, and the two below."""
APP_CHECKS: Final = "/app-health/"
"""Below it: the probes and hooks of the app's containers that the sidecar does for the kubelet."""
WITHDRAWN: Final = "/withdrawn"
"""Answers when nobody calls the pod any more."""
DISCOVERY_PORT: Final = 15010
"""Controller: discovery streams (mTLS)."""
IDENTITY_PORT: Final = 15012
"""Controller: certificate signing (server TLS, caller proves itself with a bound token)."""
CONTROLLER_ADMIN_PORT: Final = 15014
"""Controller: /healthz, /readyz, /metrics, /debug/proxies."""
WEBHOOK_PORT: Final = 9443
"""Controller: admission and conversion webhooks."""
TRAFFIC_PORT: Final = 9444
"""Controller: the TrafficMetrics API, for kube-apiserver's aggregator."""
PROXY_ID: Final = 1337
"""uid and gid of the sidecar; the redirect rules let this group's own connections pass."""

# --- Kubernetes vocabulary -------------------------------------------------------------------
SYSTEM_NAMESPACE: Final = "smi-mesh-system"
CONTROLLER_NAME: Final = "smi-mesh-controller"
"""Name of the controller's Deployment, Service and ServiceAccount."""
CONFIG_MAP: Final = "smi-mesh-config"
INJECT_LABEL: Final = "smi-mesh.io/inject"
"""On a Namespace or Pod template: `enabled` or `disabled`."""
MESHED_LABEL: Final = "smi-mesh.io/meshed"
"""Set to `true` on every pod the injector gave a sidecar."""
MODE_ANNOTATION: Final = "smi-mesh.io/mode"
MTLS_ANNOTATION: Final = "smi-mesh.io/mtls"
REGEX_ANNOTATION: Final = "smi-mesh.io/regex"
FALLBACK_ANNOTATION: Final = "smi-mesh.io/fallback"
EXCLUDE_INBOUND_ANNOTATION: Final = "smi-mesh.io/exclude-inbound-ports"
EXCLUDE_OUTBOUND_ANNOTATION: Final = "smi-mesh.io/exclude-outbound-ports"
UDP_IDLE_ANNOTATION: Final = "smi-mesh.io/udp-idle-seconds"
"""On a pod: after how many seconds without a datagram its sidecar forgets a UDP flow (default 30)."""
WITHDRAW_ANNOTATION: Final = "smi-mesh.io/withdraw-seconds"
"""On a pod: how long its app is kept at most until callers know that it ends; 0: not at all."""
MAX_WITHDRAW_SECONDS: Final = 600
WORKERS_ANNOTATION: Final = "smi-mesh.io/workers"
"""On a pod: how many processes of its sidecar serve (default 1)."""
MAX_WORKERS: Final = 64
METRICS_ANNOTATION: Final = "smi-mesh.io/metrics"
"""On a pod: the dialects of its sidecar's metrics, with commas between them."""
ACCESS_LOG_ANNOTATION: Final = "smi-mesh.io/access-log"
"""On a pod: how its sidecar logs requests, see `access_logging` (default: not at all)."""
TRACE_SAMPLING_ANNOTATION: Final = "smi-mesh.io/trace-sampling"
"""On a pod: the share of traces its sidecar begins, or `off`, see `trace_share`."""
RATE_LIMIT_ANNOTATION: Final = "smi-mesh.io/rate-limit"
"""On a Service: how many requests each of its pods takes, see `smi.limits`."""
CONNECTION_RATE_LIMIT_ANNOTATION: Final = "smi-mesh.io/connection-rate-limit"
"""On a Service: the same for opaque TCP connections."""
CIRCUIT_BREAKER_ANNOTATION: Final = "smi-mesh.io/circuit-breaker"
"""On a Service: what each caller's sidecar may have under way to it."""
OUTLIER_DETECTION_ANNOTATION: Final = "smi-mesh.io/outlier-detection"
"""On a Service: when a caller's sidecar leaves out an endpoint that fails."""
SCRAPE_ANNOTATION: Final = "smi-mesh.io/scrape"
"""Set to the sidecar's metrics port on a pod whose own `prometheus.io/` annotations mean its app."""
TOKEN_AUDIENCE: Final = "smi-mesh-ca"
DEFAULT_TRUST_DOMAIN: Final = "cluster.local"
DEFAULT_CLUSTER_DOMAIN: Final = "cluster.local"

METRICS_DIALECTS: Final = ("istio", "linkerd", "osm", "smi")
"""What a sidecar's metrics can be written in."""
DEFAULT_METRICS: Final = "istio,smi"
NO_METRICS: Final = "off"
"""In the place of dialects: requests are not counted."""
TRACE_PROTOCOLS: Final = ("otlp", "zipkin")
"""How spans are sent: OTLP over HTTP in protobuf, or Zipkin's JSON v2."""
TRACE_FORMS: Final = ("w3c", "b3", "b3-multi")
"""How a trace that a sidecar begins is told to who comes next; one that comes is told on in its own form."""
DEFAULT_TRACE_SAMPLING: Final = "1%"
DEFAULT_TRACE_FORMS: Final = "w3c"

# --- wire vocabulary -------------------------------------------------------------------------
MESH_SNI_SUFFIX: Final = ".smi-mesh.internal"
"""SNI on the mesh port is `p<target port>` + this suffix."""
ALPN_HTTP1: Final = "smi-http/1.1"
ALPN_HTTP2: Final = "h2"
ALPN_TCP: Final = "smi-tcp"
ALPN_UDP: Final = "smi-udp"
"""UDP datagrams of many flows to one port, framed (docs/adr/0007-udp.md)."""
UDP_KEY: Final = "udp:"
"""Begins every key (address, destination, cluster) of a UDP port; a key without it means TCP."""
DENIAL_HEADER: Final = "x-smi-mesh-denial"
"""Response header of a refusal: `<reason>; id=<denial id>`."""
REASON_HEADER: Final = "x-smi-mesh-reason"
"""Response header of every other answer the proxy makes itself (400, 502, 503, 504)."""


@dataclass(frozen=True, slots=True, order=True)
class NamespacedName:
    """A namespaced Kubernetes object. Its string form `namespace/name` is the key used everywhere."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `namespace/name`; raises ValueError for anything else."""
        namespace, slash, name = text.partition("/")
        if not (slash and namespace and name) or "/" in name:
            raise ValueError(f"expected 'namespace/name', got {text!r}")
        return cls(namespace, name)


@dataclass(frozen=True, slots=True, order=True)
class ServicePort:
    """One port (`spec.ports[].port`, not targetPort) of a Service; `str()` is `namespace/name:port`."""

    service: NamespacedName
    port: int

    def __str__(self) -> str:
        return f"{self.service}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class ServiceIdentity:
    """A workload identity as a SPIFFE id (SPIFFE-ID §2): `spiffe://<trust domain>/ns/<ns>/sa/<name>`."""

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def uri(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def __str__(self) -> str:
        return self.uri

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parse the URI form; raises ValueError for any other SPIFFE id shape."""
        parts = uri.split("/")
        if (
            len(parts) == 7
            and parts[0] == "spiffe:"
            and parts[1] == ""
            and parts[3] == "ns"
            and parts[5] == "sa"
            and all((parts[2], parts[4], parts[6]))
        ):
            return cls(parts[2], parts[4], parts[6])
        raise ValueError(f"expected 'spiffe://<trust domain>/ns/<namespace>/sa/<name>', got {uri!r}")


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """What a pod is an instance of, for telemetry only: no decision is made on it.

    `str()` is `kind/name/app/version`, the form it has in configuration; empty parts are not known.
    """

    kind: str = ""
    """Kind of the outermost owner as Kubernetes writes it (`Deployment`); empty without one."""
    name: str = ""
    app: str = ""
    """Label `app`, or else `app.kubernetes.io/name`."""
    version: str = ""
    """Label `version`, or else `app.kubernetes.io/version`."""

    def __str__(self) -> str:
        return "/".join((self.kind, self.name, self.app, self.version)).rstrip("/")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the string form; what has more parts than four is not understood and gives an empty one."""
        parts = text.split("/")
        return cls(*parts) if len(parts) <= 4 else cls()

    def dns_sans(self) -> tuple[str, ...]:
        """The DNS SANs that carry it in a leaf certificate, as `pod_dns_san` carries the pod."""
        found = (f"{self.kind}.{self.name}", self.app, self.version)
        names = zip(found, _WORKLOAD_SUFFIXES, strict=True)
        return tuple(
            f"{text}{suffix}" for text, suffix in names if text.strip(".") and _IN_A_SAN.fullmatch(text)
        )

    @classmethod
    def from_dns_sans(cls, names: Iterable[str]) -> Self:
        """Read what `dns_sans` wrote among other names; an empty one if there is nothing."""
        owner, app, version = "", "", ""
        for name in names:
            if name.endswith(_WORKLOAD_SUFFIXES[0]):
                owner = name.removesuffix(_WORKLOAD_SUFFIXES[0])
            elif name.endswith(_WORKLOAD_SUFFIXES[1]):
                app = name.removesuffix(_WORKLOAD_SUFFIXES[1])
            elif name.endswith(_WORKLOAD_SUFFIXES[2]):
                version = name.removesuffix(_WORKLOAD_SUFFIXES[2])
        kind, _, workload = owner.partition(".")
        return cls(kind, workload, app, version)


_IN_A_SAN: Final = re.compile(r"[-A-Za-z0-9_.]{1,190}")
_WORKLOAD_SUFFIXES: Final = (
    ".workload.smi-mesh.internal",
    ".app.smi-mesh.internal",
    ".version.smi-mesh.internal",
)


def metrics_dialects(text: str) -> tuple[str, ...]:
    """Dialects of metrics with commas between them, each once; raises ValueError that names what is none.

    `off`, which stands alone, is none of them: requests are not even counted.
    """
    if text.strip() == NO_METRICS:
        return (NO_METRICS,)
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in found:
        if name not in METRICS_DIALECTS:
            raise ValueError(f"{name[:40]!r} is no dialect; there are {', '.join(METRICS_DIALECTS)}")
    return found


@dataclass(frozen=True, slots=True)
class AccessLogging:
    """Which finished requests a sidecar logs, and how."""

    form: str
    """`json`, or `clf` for the Common Log Format."""
    failures: bool = False
    """Only answers of 400 and up, refusals, and gRPC calls that did not end well."""
    share: float = 1.0
    """How many of them, from 0 to 1, drawn one by one."""


def access_logging(text: str) -> AccessLogging | None:
    """`json` or `clf`, then perhaps `failures` and a share such as `5%`; None for `off` or nothing.

    Raises ValueError that says what can be given.
    """
    words = text.split()
    if not words or words == ["off"]:
        return None
    form, failures, share = words[0], False, 1.0
    for word in words[1:]:
        if word == "failures":
            failures = True
        elif re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?%", word) and 0 < float(word[:-1]) <= 100:
            share = float(word[:-1]) / 100
        else:
            form = ""
    if form not in ("json", "clf"):
        raise ValueError(
            f"expected off, or json or clf with failures or a share such as 5%, got {text[:40]!r}"
        )
    return AccessLogging(form, failures, share)


def trace_share(text: str) -> float | None:
    """`1%`, `0%` (joins the traces of others, begins none) or `off` (None): raises ValueError for others."""
    if text == "off":
        return None
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?%", text) or float(text[:-1]) > 100:
        raise ValueError(f"expected off or a share such as 1%, got {text[:40]!r}")
    return float(text[:-1]) / 100


def trace_forms(text: str) -> tuple[str, ...]:
    """Forms of trace context with commas between them, each once; raises ValueError for what is none."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in found:
        if name not in TRACE_FORMS:
            raise ValueError(f"{name[:40]!r} is no form of trace context; there are {', '.join(TRACE_FORMS)}")
    if not found:
        raise ValueError(f"expected one or more of {', '.join(TRACE_FORMS)}")
    return found


def pod_dns_san(namespace: str, pod: str) -> str:
    """The DNS SAN that names a pod in its leaf certificate (a SPIFFE SVID has only one URI SAN)."""
    return f"{pod}.{namespace}.pod.smi-mesh.internal"
