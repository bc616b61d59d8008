"""What a span is called and which attributes it has: OpenTelemetry's semantic conventions 1.41, and ours.

HTTP spans: https://opentelemetry.io/docs/specs/semconv/http/http-spans/; gRPC calls:
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/. What only a mesh knows begins with `smi_mesh.`. Queries
of paths are never told. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dataplane.settings import Settings
from dataplane.telemetry import OVERFLOW, Own
from dataplane.tracing.tracer import Finished
from dataplane.wire.authority import parse_authority
from dataplane.wire.errors import BadMessage
from smi.names import Workload

SCHEMA: Final = "https://opentelemetry.io/schemas/1.41.0"
SCOPE: Final = "smi-mesh"

Value = str | int
Attributes = dict[str, Value]

_KNOWN_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
_VERSIONS: Final = {0: "1.0", 1: "1.1", 2: "2"}
_GRPC_NAMES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
_SERVERS_FAULT: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_NOT_OURS: Final = frozenset({"client-gone"})
"""Reasons that are no error of this span: the caller gave up."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a Unix time in nanoseconds."""

    time: int
    name: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Record:
    """A span as it is told. Ids are hexadecimal; `parent` is empty at the head of a trace."""

    trace: str
    id: str
    parent: str
    state: str
    name: str
    server: bool
    """True: kind SERVER, False: kind CLIENT."""
    start: int
    end: int
    attributes: Attributes
    events: tuple[Event, ...]
    error: str
    """`error.type`; empty: the span's status is not an error."""
    peer: str
    """Workload of the other side, or its service; empty if neither is known."""


def record(done: Finished, own: Own) -> Record:
    """What is told of a finished span of the pod `own`."""
    edge = done.edge
    server = edge.direction == "inbound"
    attributes: Attributes = {}
    error = _error(done, server)
    name = _rpc(done, attributes) if done.rpc else _http(done, server, attributes)
    _network(done, server, attributes)
    if error:
        attributes["error.type"] = error
    _mesh(done, server, own, attributes)
    return Record(
        _text(done.trace),
        _text(done.id),
        _text(done.parent),
        _text(done.state),
        name,
        server,
        done.start,
        done.end,
        attributes,
        tuple(_retry(*one) for one in done.retries),
        error,
        Workload.parse(edge.workload).name or _service(done),
    )


def resource(settings: Settings) -> Attributes:
    """Who tells: the pod's workload, under which its app's own spans are found, too."""
    workload = Workload.parse(settings.workload)
    found: Attributes = {
        "service.name": workload.name or workload.app or settings.pod,
        "service.namespace": settings.namespace,
        "service.version": workload.version,
        "service.instance.id": settings.pod_name,
        "k8s.namespace.name": settings.namespace,
        "k8s.pod.name": settings.pod,
        "k8s.pod.ip": settings.pod_ip,
    }
    if workload.kind and workload.name:
        found[f"k8s.{workload.kind.lower()}.name"] = workload.name
    return {key: value for key, value in found.items() if value}


def _http(done: Finished, server: bool, attributes: Attributes) -> str:
    """The span's name: the method alone, since no template of the path is known here."""
    method = _text(done.method)
    known = method in _KNOWN_METHODS
    attributes["http.request.method"] = method if known else "_OTHER"
    if not known:
        attributes["http.request.method_original"] = method
    if done.status:
        attributes["http.response.status_code"] = done.status
    if server:
        attributes["url.scheme"] = "http"
        attributes["url.path"] = _text(done.path)
    else:
        attributes["url.full"] = f"http://{_text(done.host)}{_text(done.path)}"
    if done.retries:
        attributes["http.request.resend_count"] = len(done.retries)
    if done.uploaded:
        attributes["http.request.body.size"] = done.uploaded
    if done.downloaded:
        attributes["http.response.body.size"] = done.downloaded
    if done.agent:
        attributes["user_agent.original"] = _text(done.agent)
    return method if known else "HTTP"


def _rpc(done: Finished, attributes: Attributes) -> str:
    method = _text(done.path.lstrip(b"/"))
    attributes["rpc.system.name"] = "grpc"
    attributes["rpc.method"] = method
    if done.grpc:
        attributes["rpc.response.status_code"] = _grpc_name(done.grpc)
    return method


def _network(done: Finished, server: bool, attributes: Attributes) -> None:
    try:
        authority = parse_authority(done.host)
    except BadMessage:
        pass  # the request was refused for it
    else:
        attributes["server.address"] = authority.host
        attributes["server.port"] = authority.port
    attributes["network.protocol.version"] = _VERSIONS.get(done.minor, "")
    if done.to and not server:
        attributes["network.peer.address"] = done.to
        attributes["network.peer.port"] = done.to_port


def _mesh(done: Finished, server: bool, own: Own, attributes: Attributes) -> None:
    edge = done.edge
    source, destination = (edge.peer, own.identity) if server else (own.identity, edge.peer)
    denial, _, denial_id = done.denial.partition("; id=")
    told = {
        "direction": edge.direction,
        "source.identity": source,
        "destination.identity": destination,
        "peer.pod": edge.pod,
        "peer.workload": edge.workload,
        "service": edge.service,
        "backend": edge.backend,
        "split": edge.split,
        "reason": "" if denial else done.reason or done.peer_reason,
        "denial.reason": denial,
        "denial.id": denial_id,
        "request_id": _text(done.request_id),
    }
    attributes.update({f"smi_mesh.{key}": value for key, value in told.items() if value})


def _error(done: Finished, server: bool) -> str:
    """`error.type`: our own reason, or the status; empty if the conventions see no error."""
    if done.reason in _NOT_OURS:
        return ""
    if done.rpc:
        name = _grpc_name(done.grpc) if done.grpc else ""
        failed = name in _SERVERS_FAULT if server else name != "OK"
        if not name:
            return done.reason or (str(done.status) if done.status >= 400 else "")
        return (done.reason or name) if failed else ""
    if done.reason == "truncated":
        return done.reason
    if 0 < done.status < (500 if server else 400):
        return ""
    return done.reason or (str(done.status) if done.status else "")


def _grpc_name(status: str) -> str:
    if status.isascii() and status.isdigit() and int(status[:3]) < len(_GRPC_NAMES):
        return _GRPC_NAMES[int(status)]
    return "_OTHER"


def _retry(time: int, why: str, host: str, port: int) -> Event:
    attributes: Attributes = {"smi_mesh.reason": why}
    if host:
        attributes |= {"network.peer.address": host, "network.peer.port": port}
    return Event(time, "smi_mesh.retry", attributes)


def _service(done: Finished) -> str:
    name = done.edge.backend or done.edge.service
    return "" if name == OVERFLOW else name.rpartition("/")[2]


def _text(value: bytes) -> str:
    return value.decode("latin-1")
