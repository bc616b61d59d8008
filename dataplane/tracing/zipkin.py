"""Spans as Zipkin's JSON v2 (openzipkin/zipkin-api, `zipkin2-api.yaml`). Pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any, Final

from dataplane.tracing.semantics import SCOPE, Attributes, Event, Record

CONTENT_TYPE: Final = "application/json"
PATH: Final = "/api/v2/spans"


def encode(records: Sequence[Record], resource: Attributes, version: str) -> bytes:
    """A list of spans."""
    local = _endpoint(str(resource["service.name"]), str(resource.get("k8s.pod.ip", "")), 0)
    shared = {key: str(value) for key, value in resource.items() if key.startswith(("k8s.", "service."))}
    shared |= {"otel.scope.name": SCOPE, "otel.scope.version": version}
    return json.dumps([_span(one, local, shared) for one in records], separators=(",", ":")).encode()


def _span(one: Record, local: dict[str, Any], shared: dict[str, str]) -> dict[str, Any]:
    tags = shared | {key: str(value) for key, value in one.attributes.items()}
    if one.error:
        tags |= {"error": one.error, "otel.status_code": "ERROR"}
    span: dict[str, Any] = {
        "traceId": one.trace,
        "id": one.id,
        "name": one.name.lower(),
        "kind": "SERVER" if one.server else "CLIENT",
        "timestamp": one.start // 1000,
        "duration": max((one.end - one.start) // 1000, 1),
        "localEndpoint": local,
        "tags": tags,
    }
    if one.parent:
        span["parentId"] = one.parent
    address = str(one.attributes.get("network.peer.address", ""))
    remote = _endpoint(one.peer, address, int(one.attributes.get("network.peer.port", 0)))
    if remote:
        span["remoteEndpoint"] = remote
    if one.events:
        span["annotations"] = [
            {"timestamp": event.time // 1000, "value": _annotation(event)} for event in one.events
        ]
    return span


def _annotation(event: Event) -> str:
    """An event and its attributes in one text: annotations have no tags."""
    return json.dumps({event.name: event.attributes}, separators=(",", ":"))


def _endpoint(service: str, address: str, port: int) -> dict[str, Any]:
    found: dict[str, Any] = {"serviceName": service.lower()} if service else {}
    try:
        found["ipv6" if ipaddress.ip_address(address).version == 6 else "ipv4"] = address
    except ValueError:
        pass  # a host name, which this format has no place for
    else:
        if port:
            found["port"] = port
    return found
