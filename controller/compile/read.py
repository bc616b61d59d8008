"""Kubernetes dictionaries → Readings.

Tolerant: whatever an object holds, reading it returns; what cannot be understood becomes a Finding
on that object and leaves every other alone. Reads no more than the compiler uses, so that an
object's irrelevant changes (heartbeats, other people's annotations) give an equal digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from hashlib import blake2b
from typing import Final, TypeVar

from controller.compile.protocols import says_udp, spoken
from controller.compile.shape import Node, UnreadableError
from controller.compile.workload import workload_of
from controller.compile.world import (
    EndpointSlice,
    Namespace,
    Pod,
    Port,
    Reading,
    Service,
    Settings,
    SliceEndpoint,
    SlicePort,
    Value,
)
from smi.api.parse import Parsed, parse
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.limits import ServiceLimits, service_limits
from smi.names import (
    ADMIN_PORT,
    CONFIG_MAP,
    EXCLUDE_INBOUND_ANNOTATION,
    EXCLUDE_OUTBOUND_ANNOTATION,
    INBOUND_PORT,
    MESH_PORT,
    MESHED_LABEL,
    MODE_ANNOTATION,
    MTLS_ANNOTATION,
    OUTBOUND_PORT,
    REGEX_ANNOTATION,
    SYSTEM_NAMESPACE,
    NamespacedName,
)
from smi.policy.path import BadTarget, normalise_target
from smi.policy.snapshot import InboundPort, Mode, Mtls, Probe, Regex

SMI_KINDS: Final[Mapping[str, str]] = {
    "TrafficSplit": "split.smi-spec.io",
    "TrafficTarget": "access.smi-spec.io",
    "IdentityBinding": "access.smi-spec.io",
    "HTTPRouteGroup": "specs.smi-spec.io",
    "TCPRoute": "specs.smi-spec.io",
    "UDPRoute": "specs.smi-spec.io",
}
"""Kind → API group of every SMI kind the compiler reads."""

_PROXY_PORTS: Final = frozenset({OUTBOUND_PORT, INBOUND_PORT, MESH_PORT, ADMIN_PORT})


def from_kubernetes(kind: str, obj: Mapping[str, object]) -> Reading:
    """Read one object of `kind`, one of CORE_KINDS or SMI_KINDS. Never raises for what it holds.

    Raises ValueError for a kind the compiler does not read: that is the caller's mistake, not an object's.
    """
    if kind in SMI_KINDS:
        return _read_smi(kind, obj)
    if kind not in _READERS:
        raise ValueError(f"the compiler does not read objects of kind {kind!r}")
    group, reader = _READERS[kind]
    return _read_core(ObjectRef(group, kind, *_identify(obj)), reader, obj)


# --- frame --------------------------------------------------------------------------------------------


def _identify(obj: Mapping[str, object]) -> tuple[str, str]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, Mapping):
        return "", ""
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _read_core(
    ref: ObjectRef, reader: Callable[[_Object], Value | None], obj: Mapping[str, object]
) -> Reading:
    seen = _Object(ref, Node(obj))
    try:
        _check_name(ref)
        value = reader(seen)
    except UnreadableError as error:
        value = None
        seen.findings.append(Finding(ref, Severity.ERROR, Reason.INVALID, error.message, error.field))
    findings = tuple(seen.findings)
    return Reading(ref, value, findings, _digest(repr((ref, _stable(value), findings))))


def _check_name(ref: ObjectRef) -> None:
    """Names make keys (`namespace/name:port`), so they must be there and hold no separator."""
    if not ref.name or "/" in ref.name:
        raise UnreadableError("metadata.name", f"expected a name, got {ref.name!r}")
    if ref.kind != "Namespace" and (not ref.namespace or "/" in ref.namespace):
        raise UnreadableError("metadata.namespace", f"expected a namespace, got {ref.namespace!r}")


def _stable(value: Value | None) -> object:
    """The value without sets, whose order differs from process to process."""
    if isinstance(value, Pod):
        excluded = sorted(value.exclude_inbound), sorted(value.exclude_outbound)
        return (*(getattr(value, name) for name in _POD_FIELDS), *excluded)
    return value


_POD_FIELDS: Final = tuple(name for name in Pod.__slots__ if not name.startswith("exclude_"))


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class _Object:
    """One object being read: its root node, and the findings gathered so far."""

    def __init__(self, ref: ObjectRef, root: Node) -> None:
        self.ref = ref
        self.root = root
        self.name = NamespacedName(ref.namespace, ref.name)
        self.findings: list[Finding] = []

    def warn(self, field: str, reason: Reason, message: str) -> None:
        self.findings.append(Finding(self.ref, Severity.WARNING, reason, message, field))

    def setting(
        self, values: Mapping[str, str], key: str, choices: type[_Choice], where: str
    ) -> _Choice | None:
        """An optional setting out of a closed set; an unknown value is a finding and counts as absent."""
        text = values.get(key)
        if text is None:
            return None
        try:
            return choices(text)
        except ValueError:
            wanted = ", ".join(choice.value for choice in choices)
            field = f"{where}.{key}"
            self.warn(
                field, Reason.UNKNOWN_SETTING, f"{key}: expected one of {wanted}, got {text!r}; it is ignored"
            )
            return None


_Choice = TypeVar("_Choice", bound=StrEnum)


# --- settings and namespaces --------------------------------------------------------------------------


class _SameServiceAccount(StrEnum):
    DENY = "deny"
    ALLOW = "allow"


def _settings(obj: _Object) -> Settings | None:
    """ConfigMap `smi-mesh-config` of the system namespace (R9); any other ConfigMap is not ours."""
    if obj.name != NamespacedName(SYSTEM_NAMESPACE, CONFIG_MAP):
        return None
    data = obj.root.at("data").texts()
    defaults = Settings()
    return Settings(
        mode=obj.setting(data, "mode", Mode, "data") or defaults.mode,
        mtls=obj.setting(data, "mtls", Mtls, "data") or defaults.mtls,
        regex=obj.setting(data, "regex", Regex, "data") or defaults.regex,
        same_service_account=(
            obj.setting(data, "sameServiceAccount", _SameServiceAccount, "data") is _SameServiceAccount.ALLOW
        ),
    )


def _namespace(obj: _Object) -> Namespace:
    where = "metadata.annotations"
    annotations = obj.root.at("metadata", "annotations").texts()
    return Namespace(
        name=obj.ref.name,
        mode=obj.setting(annotations, MODE_ANNOTATION, Mode, where),
        mtls=obj.setting(annotations, MTLS_ANNOTATION, Mtls, where),
        regex=obj.setting(annotations, REGEX_ANNOTATION, Regex, where),
    )


# --- services and endpoint slices -----------------------------------------------------------------------


def _service(obj: _Object) -> Service:
    spec = obj.root.at("spec")
    external = spec.at("type").text() == "ExternalName"
    first = spec.at("clusterIP").text()
    every = tuple(node.text() for node in spec.at("clusterIPs").items()) or (first,)
    ports = [port for node in spec.at("ports").items() if (port := _service_port(obj, node)) is not None]
    return Service(
        name=obj.name,
        addresses=() if external else tuple(sorted({ip for ip in every if ip and ip != "None"})),
        headless=not external and "None" in every,
        selector=tuple(sorted(spec.at("selector").texts().items())),
        ports=() if external else tuple(sorted(ports, key=lambda port: (port.port, port.transport))),
        limits=_limits(obj),
    )


def _limits(obj: _Object) -> ServiceLimits:
    """What the Service's annotations say about limits (R15, R16)."""
    annotations = obj.root.at("metadata", "annotations").texts()
    limits, complaints = service_limits(annotations.get, obj.name.namespace)
    for complaint in complaints:
        field = f"metadata.annotations.{complaint.annotation}"
        obj.findings.append(Finding(obj.ref, Severity.ERROR, Reason.INVALID_LIMIT, complaint.message, field))
    return limits


def _service_port(obj: _Object, node: Node) -> Port | None:
    transport = node.at("protocol").text("TCP")
    number = node.at("port").port()
    if transport not in ("TCP", "UDP") or not number:
        return None
    name = node.at("name").text()
    if transport == "TCP" and says_udp(name) and not node.at("appProtocol").text():
        message = (
            f"port {number} is named {name!r} and its protocol is TCP, which decides: set `protocol: UDP`, "
            "or name it for what is spoken; until then the first bytes of each connection say that"
        )
        obj.findings.append(
            Finding(obj.ref, Severity.WARNING, Reason.PORT_NAME, message, f"{node.path}.name")
        )
    target = node.at("targetPort")
    named = isinstance(target.value, str) and not target.value.isdecimal()
    return Port(
        port=number,
        name=name,
        transport=transport,
        target=target.text() if named else _number_or_text(target) or number,
        protocol=spoken(transport, name, node.at("appProtocol").text()),
    )


def _number_or_text(node: Node) -> int:
    """An IntOrString that holds a number; 0 where there is none."""
    if isinstance(node.value, str) and node.value.isascii() and node.value.isdecimal():
        return Node(int(node.value[:6]), node.path).port()
    return node.port()


def _endpoint_slice(obj: _Object) -> EndpointSlice:
    service = obj.root.at("metadata", "labels").texts().get("kubernetes.io/service-name")
    by_address = obj.root.at("addressType").text("IPv4") in ("IPv4", "IPv6")
    ports = [port for node in obj.root.at("ports").items() if (port := _slice_port(node)) is not None]
    endpoints = [_slice_endpoint(node, obj.name.namespace) for node in obj.root.at("endpoints").items()]
    return EndpointSlice(
        name=obj.name,
        service=NamespacedName(obj.name.namespace, service) if service else None,
        ports=tuple(ports),
        endpoints=tuple(known for known in endpoints if known is not None) if by_address else (),
    )


def _slice_port(node: Node) -> SlicePort | None:
    transport = node.at("protocol").text("TCP")
    number = node.at("port").port()
    if transport not in ("TCP", "UDP") or not number:
        return None
    return SlicePort(node.at("name").text(), number, transport)


def _slice_endpoint(node: Node, namespace: str) -> SliceEndpoint | None:
    """An endpoint by its first address: Kubernetes says that the others are to be ignored."""
    address = next((address.text() for address in node.at("addresses").items()), "")
    target = node.at("targetRef")
    pod = target.at("name").text() if target.at("kind").text() == "Pod" else ""
    if not address:
        return None
    # "A nil value should be interpreted as true"; a nil `serving` defers to `ready` (discovery/v1
    # EndpointConditions).
    ready = node.at("conditions", "ready").truth(default=True)
    return SliceEndpoint(
        address=address,
        ready=ready,
        serving=node.at("conditions", "serving").truth(default=ready),
        pod=NamespacedName(target.at("namespace").text() or namespace, pod) if pod else None,
        hostname=node.at("hostname").text(),
    )


# --- pods -------------------------------------------------------------------------------------------------


def _pod(obj: _Object) -> Pod:
    spec, status, metadata = obj.root.at("spec"), obj.root.at("status"), obj.root.at("metadata")
    labels, annotations = metadata.at("labels").texts(), metadata.at("annotations").texts()
    host_network = spec.at("hostNetwork").truth()
    containers = [*spec.at("containers").items(), *_native_sidecars(spec)]
    ports = [port for container in containers for port in _container_ports(container)]
    named = tuple(sorted({(name, port.port) for name, port in ports if name}))
    return Pod(
        name=obj.name,
        ips=() if host_network else _pod_ips(status),
        host_network=host_network,
        service_account=spec.at("serviceAccountName").text("default") or "default",
        labels=tuple(sorted(labels.items())),
        ready=_is_ready(status),
        terminating=metadata.at("deletionTimestamp").value is not None,
        # A redirect in the host's network would catch everybody's traffic: such a pod has no sidecar.
        meshed=labels.get(MESHED_LABEL) == "true" and not host_network,
        ports=tuple(sorted({port for _, port in ports if port.port not in _PROXY_PORTS}, key=_port_order)),
        named_ports=named,
        probes=_probes(containers, obj),
        exclude_inbound=_excluded_ports(obj, annotations, EXCLUDE_INBOUND_ANNOTATION) | _PROXY_PORTS,
        exclude_outbound=_excluded_ports(obj, annotations, EXCLUDE_OUTBOUND_ANNOTATION),
        workload=workload_of(labels, _controller(metadata)),
        owner=_controller(metadata),
        node=spec.at("nodeName").text(),
    )


def _controller(metadata: Node) -> tuple[str, str]:
    """(kind, name) of the owner that manages the object; empty without one."""
    for owner in metadata.at("ownerReferences").items():
        if owner.at("controller").truth():
            return owner.at("kind").text(), owner.at("name").text()
    return "", ""


def _native_sidecars(spec: Node) -> list[Node]:
    """Init containers that run as long as the pod does; only they have ports and probes of the pod."""
    return [node for node in spec.at("initContainers").items() if node.at("restartPolicy").text() == "Always"]


def _container_ports(container: Node) -> list[tuple[str, InboundPort]]:
    found = []
    for node in container.at("ports").items():
        name = node.at("name").text()
        number, transport = node.at("containerPort").port(), node.at("protocol").text("TCP")
        if number and transport in ("TCP", "UDP"):
            found.append((name, InboundPort(number, spoken(transport, name))))
    return found


def _port_order(port: InboundPort) -> tuple[int, str]:
    return port.port, port.protocol


def _pod_ips(status: Node) -> tuple[str, ...]:
    """A pod that ended may have lost its addresses to another."""
    if status.at("phase").text() in ("Succeeded", "Failed"):
        return ()
    ips = {node.at("ip").text() for node in status.at("podIPs").items()} | {status.at("podIP").text()}
    return tuple(sorted(ips - {""}))


def _is_ready(status: Node) -> bool:
    return any(
        node.at("type").text() == "Ready" and node.at("status").text() == "True"
        for node in status.at("conditions").items()
    )


def _probes(containers: list[Node], obj: _Object) -> tuple[Probe, ...]:
    """HTTP probes of the kubelet (S26). HTTPS ones cannot be seen into, others carry no path."""
    found = set()
    for container in containers:
        named = {name: port.port for name, port in _container_ports(container) if name}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            http = container.at(kind, "httpGet")
            if http.value is None or http.at("scheme").text("HTTP").upper() != "HTTP":
                continue
            port = _probe_port(http.at("port"), named)
            if port and port not in _PROXY_PORTS:
                found |= _probe(port, http.at("path"), obj)
    return tuple(sorted(found, key=lambda probe: (probe.port, probe.path)))


def _probe_port(node: Node, named: Mapping[str, int]) -> int:
    if isinstance(node.value, str) and node.value in named:
        return named[node.value]
    if isinstance(node.value, str) and not node.value.isdecimal():
        return 0
    return _number_or_text(node)


def _probe(port: int, path: Node, obj: _Object) -> set[Probe]:
    text = path.text("/")
    absolute = text if text.startswith("/") else f"/{text}"
    try:
        normal, _ = normalise_target(absolute.encode())
    except (BadTarget, UnicodeEncodeError) as error:
        obj.warn(
            path.path, Reason.INVALID, f"the probe's path cannot be matched, so it will be denied: {error}"
        )
        return set()
    return {Probe(port, normal.decode("ascii"))}


def _excluded_ports(obj: _Object, annotations: Mapping[str, str], name: str) -> frozenset[int]:
    found = set()
    for item in annotations.get(name, "").split(","):
        text = item.strip()
        if text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= 65535:
            found.add(int(text))
        elif text:
            field = f"metadata.annotations.{name}"
            obj.warn(
                field, Reason.UNKNOWN_SETTING, f"expected ports from 1 to 65535, got {text!r}; it is ignored"
            )
    return frozenset(found)


# --- SMI objects --------------------------------------------------------------------------------------------


def _read_smi(kind: str, obj: Mapping[str, object]) -> Reading:
    """Read an SMI object through `smi.api`. Its digest covers what its author wrote, not its status."""
    ref = ObjectRef(SMI_KINDS[kind], kind, *_identify(obj))
    plain = _plain_dict(obj)
    found = plain.get("metadata")
    metadata = found if isinstance(found, dict) else {}
    generation = metadata.get("generation")
    said = json.dumps(_authored(plain, metadata), sort_keys=True, default=repr, skipkeys=True)
    outcome = parse(plain)
    value = outcome.value if isinstance(outcome, Parsed) else None
    findings = [replace(finding, ref=ref) for finding in outcome.findings]
    if value is not None and value.ref != ref:
        findings.append(
            Finding(ref, Severity.ERROR, Reason.INVALID, f"expected {ref}, got {value.ref}", "kind")
        )
        value = None
    return Reading(
        ref=ref,
        value=value,
        findings=tuple(findings),
        digest=_digest(f"{ref} {said}"),
        uid=str(metadata.get("uid") or ""),
        generation=generation if isinstance(generation, int) else 0,
    )


def _authored(obj: Mapping[str, object], metadata: Mapping[str, object]) -> dict[str, object]:
    kept = ("name", "namespace", "uid", "generation", "creationTimestamp", "annotations")
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": {key: metadata.get(key) for key in kept}}


def _plain_dict(obj: Mapping[str, object]) -> dict[str, object]:
    """Dicts and lists all the way down: kopf hands out read-only mapping views."""
    return {key: _deep(value) for key, value in obj.items()}


def _deep(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _deep(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(inner) for inner in value]
    return value


_READERS: Final[Mapping[str, tuple[str, Callable[[_Object], Value | None]]]] = {
    "ConfigMap": ("", _settings),
    "Namespace": ("", _namespace),
    "Service": ("", _service),
    "Pod": ("", _pod),
    "EndpointSlice": ("discovery.k8s.io", _endpoint_slice),
}
CORE_KINDS: Final = tuple(_READERS)
