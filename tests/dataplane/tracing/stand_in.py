"""A collector that speaks OTLP/HTTP and Zipkin's API over real sockets, and does what a test tells it.

OTLP is decoded with the classes that protoc made of OpenTelemetry's own definitions, Zipkin's JSON is held
to the shape of its OpenAPI document (zipkin2-api.yaml).
"""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_ENDPOINT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "serviceName": {"type": "string"},
        "ipv4": {"type": "string", "format": "ipv4"},
        "ipv6": {"type": "string", "format": "ipv6"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    },
}
_ID = {"type": "string", "pattern": "^[a-f0-9]{16}$"}
ZIPKIN_SPANS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["traceId", "id"],
        "additionalProperties": False,
        "properties": {
            "traceId": {"type": "string", "pattern": "^[a-f0-9]{16,32}$"},
            "name": {"type": "string"},
            "parentId": _ID,
            "id": _ID,
            "kind": {"enum": ["CLIENT", "SERVER", "PRODUCER", "CONSUMER"]},
            "timestamp": {"type": "integer", "minimum": 1},
            "duration": {"type": "integer", "minimum": 1},
            "debug": {"type": "boolean"},
            "shared": {"type": "boolean"},
            "localEndpoint": _ENDPOINT,
            "remoteEndpoint": _ENDPOINT,
            "annotations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "timestamp": {"type": "integer"},
                        "value": {"type": "string"},
                    },
                },
            },
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}


@dataclass
class Told:
    """A span as a collector understands it, from either protocol. Times are Unix nanoseconds."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    kind: str
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    error: bool
    resource: dict[str, Any]
    state: str = ""


@dataclass
class Got:
    """A request as it came."""

    path: str
    fields: dict[str, str]
    spans: list[Told]


@dataclass
class Script:
    """What to answer: one of `statuses` each, the last one for ever."""

    statuses: list[int] = field(default_factory=lambda: [200])
    fields: dict[str, str] = field(default_factory=dict)
    rejects: int = 0
    """Spans of each request that OTLP's answer says were not taken."""
    silent: threading.Event | None = None
    """Requests wait for it."""


class Collector:
    """The stand-in; `url` is its OTLP or Zipkin address. Thread-safe for what tests do with it."""

    def __init__(self, server: ThreadingHTTPServer, secure: bool) -> None:
        host, port = server.server_address[:2]
        self.url = f"{'https' if secure else 'http'}://{host!s}:{port}"
        self.port = int(port)
        self.script = Script()
        self.requests: list[Got] = []
        self.connections = 0
        self.asked = 0
        """Requests that came, answered or not."""

    @property
    def spans(self) -> list[Told]:
        """Of all requests that were answered with success."""
        return [span for request in list(self.requests) for span in request.spans]


@contextmanager
def collecting(host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Iterator[Collector]:
    """A collector that runs until the end of the block."""
    collector: Collector

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def setup(self) -> None:
            super().setup()
            collector.connections += 1

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            script = collector.script
            collector.asked += 1
            if script.silent is not None:
                script.silent.wait(30)
                self.close_connection = True
                return
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            statuses = script.statuses
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            answer = b""
            if status // 100 == 2:
                fields = {name.lower(): value for name, value in self.headers.items()}
                collector.requests.append(Got(self.path, fields, read(self.path, fields, body)))
                if script.rejects:
                    response = ExportTraceServiceResponse()
                    response.partial_success.rejected_spans = script.rejects
                    response.partial_success.error_message = "too many"
                    answer = response.SerializeToString()
            self.send_response(status)
            for name, value in script.fields.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

        def handle_error(self, *arguments: Any) -> None:
            pass  # a sidecar that gave a connection up

    server = Server((host, 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    collector = Collector(server, context is not None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        if collector.script.silent is not None:
            collector.script.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()


def read(path: str, fields: dict[str, str], body: bytes) -> list[Told]:
    """The spans of a request's body; fails for what is not of its protocol."""
    if fields["content-type"] == "application/x-protobuf":
        return read_otlp(body)
    assert fields["content-type"] == "application/json", fields
    return read_zipkin(body)


def read_otlp(body: bytes) -> list[Told]:
    """The spans of an ExportTraceServiceRequest."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    found = []
    for resource_spans in request.resource_spans:
        resource = _values(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            assert scope_spans.scope.name == "smi-mesh"
            for span in scope_spans.spans:
                assert len(span.trace_id) == 16
                assert len(span.span_id) == 8
                assert not len(UnknownFieldSet(span))
                found.append(
                    Told(
                        resource["service.name"],
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.name,
                        {2: "SERVER", 3: "CLIENT"}[span.kind],
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        _values(span.attributes),
                        [(event.name, _values(event.attributes)) for event in span.events],
                        span.status.code == 2,
                        resource,
                        span.trace_state,
                    )
                )
    return found


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def read_zipkin(body: bytes) -> list[Told]:
    """The spans of a Zipkin list."""
    spans = json.loads(body)
    jsonschema.validate(spans, ZIPKIN_SPANS, format_checker=jsonschema.FormatChecker())
    return [
        Told(
            span["localEndpoint"]["serviceName"],
            span["traceId"],
            span["id"],
            span.get("parentId", ""),
            span["name"],
            span["kind"],
            span["timestamp"] * 1000,
            (span["timestamp"] + span["duration"]) * 1000,
            span["tags"],
            [next(iter(json.loads(one["value"]).items())) for one in span.get("annotations", ())],
            "error" in span["tags"],
            span,
        )
        for span in spans
    ]
