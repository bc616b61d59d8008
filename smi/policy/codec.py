"""Policy values ↔ JSON-able data (dict, list, str, int, bool, None): what discovery carries.

Exact both ways. Decoding is strict about what it knows and blind to fields it does not know, so
that an older proxy understands a newer controller; a missing field has its default, so that a
newer proxy understands an older one. Only CodecError escapes a decoder, whatever the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

from smi.policy.snapshot import (
    Backend,
    CircuitBreaker,
    Cluster,
    Destination,
    Endpoint,
    Grant,
    Inbound,
    InboundPort,
    Limited,
    Mode,
    Mtls,
    Outliers,
    PortSet,
    Probe,
    Protocol,
    RateLimit,
    Regex,
    RouteMatch,
    Split,
)

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

_MAX_PORT: Final = 65535
_MOST: Final = 1 << 32
"""Any other number than a weight."""
_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


class CodecError(ValueError):
    """The data is not what this version can read. The text names the field."""


# --- encoding ---------------------------------------------------------------------------------


def encode_inbound(inbound: Inbound) -> JSON:
    """An Inbound as data."""
    return {
        "pod": inbound.pod,
        "identity": inbound.identity,
        "mode": inbound.mode.value,
        "mtls": inbound.mtls.value,
        "same_service_account": inbound.same_service_account,
        "grants": [_encode_grant(grant) for grant in inbound.grants],
        "ports": [_encode_inbound_port(port) for port in inbound.ports],
        "probes": [{"port": probe.port, "path": probe.path} for probe in inbound.probes],
        **({"limits": [encode_limit(limit) for limit in inbound.limits]} if inbound.limits else {}),
    }


def encode_limit(limit: RateLimit) -> JSON:
    """A RateLimit as data."""
    return {
        "service": limit.service,
        "text": limit.text,
        "what": limit.what.value,
        "ports": [*sorted(limit.ports)],
        "count": limit.count,
        "seconds": limit.seconds,
        "burst": limit.burst,
        "per_client": limit.per_client,
        "source": limit.source,
        "matches": _encode_matches(limit.matches),
    }


def encode_breaker(breaker: CircuitBreaker) -> JSON:
    """A CircuitBreaker as data."""
    outliers = breaker.outliers
    return {
        "max_connections": breaker.max_connections,
        "max_pending": breaker.max_pending,
        "max_requests": breaker.max_requests,
        "max_retries": breaker.max_retries,
        "retry_percent": breaker.retry_percent,
        "outliers": None
        if outliers is None
        else {
            "consecutive_errors": outliers.consecutive_errors,
            "consecutive_gateway_errors": outliers.consecutive_gateway_errors,
            "base_seconds": outliers.base_seconds,
            "max_seconds": outliers.max_seconds,
            "max_percent": outliers.max_percent,
        },
    }


def encode_destination(destination: Destination) -> JSON:
    """A Destination as data."""
    return {
        "service": destination.service,
        "port": destination.port,
        "protocol": destination.protocol.value,
        "cluster": destination.cluster,
        "splits": [_encode_split(split) for split in destination.splits],
    }


def encode_cluster(cluster: Cluster) -> JSON:
    """A Cluster as data."""
    return [
        {
            "ip": endpoint.ip,
            "port": endpoint.port,
            "pod": endpoint.pod,
            "identity": endpoint.identity,
            **({"workload": endpoint.workload} if endpoint.workload else {}),
            **({"leaving": True} if endpoint.leaving else {}),
        }
        for endpoint in cluster
    ]


def _encode_inbound_port(port: InboundPort) -> JSON:
    service = {"service": port.service} if port.service else {}
    return {"port": port.port, "protocol": port.protocol.value, **service}


def _encode_grant(grant: Grant) -> JSON:
    return {
        "target": grant.target,
        "sources": _texts(grant.sources),
        "source_pods": _texts(grant.source_pods),
        "port": grant.port,
        "tcp": _encode_ports(grant.tcp),
        "udp": _encode_ports(grant.udp),
        "http": _encode_matches(grant.http),
    }


def _encode_split(split: Split) -> JSON:
    return {
        "name": split.name,
        "matches": _encode_matches(split.matches),
        "backends": [
            {"service": backend.service, "weight": backend.weight, "cluster": backend.cluster}
            for backend in split.backends
        ],
        "fallback_root": split.fallback_root,
    }


def _encode_matches(matches: tuple[RouteMatch, ...] | None) -> JSON:
    return None if matches is None else [_encode_match(match) for match in matches]


def _encode_match(match: RouteMatch) -> JSON:
    return {
        "group": match.group,
        "name": match.name,
        "path": match.path,
        "methods": _texts(match.methods),
        "headers": [[name, pattern] for name, pattern in match.headers],
        "regex": match.regex.value,
    }


def _encode_ports(ports: PortSet | None) -> JSON:
    return None if ports is None else {"every": ports.every, "ports": [*sorted(ports.ports)]}


def _texts(texts: Iterable[str]) -> list[JSON]:
    return [*sorted(texts)]


# --- decoding ---------------------------------------------------------------------------------


def decode_inbound(data: object) -> Inbound:
    """The Inbound that `encode_inbound` wrote; raises CodecError."""
    fields = _object(data, "inbound")
    return Inbound(
        pod=_text(fields, "pod"),
        identity=_text(fields, "identity"),
        mode=_choice(fields, "mode", Mode, Mode.ENFORCE),
        mtls=_choice(fields, "mtls", Mtls, Mtls.STRICT),
        same_service_account=_flag(fields, "same_service_account"),
        grants=_items(fields, "grants", _decode_grant),
        ports=_items(fields, "ports", _decode_inbound_port),
        probes=_items(fields, "probes", _decode_probe),
        limits=_items(fields, "limits", _decode_limit),
    )


def decode_destination(data: object) -> Destination:
    """The Destination that `encode_destination` wrote; raises CodecError."""
    fields = _object(data, "destination")
    return Destination(
        service=_optional_text(fields, "service"),
        port=_port(fields.get("port", 0), "port"),
        protocol=_choice(fields, "protocol", Protocol, Protocol.DETECT),
        cluster=_optional_text(fields, "cluster"),
        splits=_items(fields, "splits", _decode_split),
    )


def decode_cluster(data: object) -> Cluster:
    """The Cluster that `encode_cluster` wrote; raises CodecError."""
    return tuple(_decode_endpoint(item) for item in _array(data, "cluster"))


def decode_breaker(data: object) -> CircuitBreaker:
    """The CircuitBreaker that `encode_breaker` wrote; raises CodecError."""
    fields = _object(data, "breaker")
    return CircuitBreaker(
        max_connections=_optional_number(fields, "max_connections", 1),
        max_pending=_optional_number(fields, "max_pending", 0),
        max_requests=_optional_number(fields, "max_requests", 1),
        max_retries=_optional_number(fields, "max_retries", 0),
        retry_percent=_optional_number(fields, "retry_percent", 0),
        outliers=None if fields.get("outliers") is None else _decode_outliers(fields["outliers"]),
    )


def _decode_outliers(data: object) -> Outliers:
    fields = _object(data, "outliers")
    return Outliers(
        consecutive_errors=_optional_number(fields, "consecutive_errors", 1),
        consecutive_gateway_errors=_optional_number(fields, "consecutive_gateway_errors", 1),
        base_seconds=_seconds(fields, "base_seconds"),
        max_seconds=_seconds(fields, "max_seconds"),
        max_percent=_number(fields, "max_percent", 0),
    )


def _decode_limit(data: object) -> RateLimit:
    fields = _object(data, "limit")
    return RateLimit(
        service=_text(fields, "service"),
        text=_text(fields, "text"),
        what=_choice(fields, "what", Limited, Limited.REQUESTS),
        ports=frozenset(_port(port, "ports") for port in _array(fields.get("ports", []), "ports")),
        count=_number(fields, "count", 1),
        seconds=_number(fields, "seconds", 1),
        burst=_number(fields, "burst", 1),
        per_client=_flag(fields, "per_client"),
        source=_optional_text(fields, "source"),
        matches=_decode_matches(fields, "matches"),
    )


def _decode_endpoint(data: object) -> Endpoint:
    fields = _object(data, "endpoint")
    return Endpoint(
        ip=_text(fields, "ip"),
        port=_port(fields.get("port"), "port"),
        pod=_optional_text(fields, "pod"),
        identity=_optional_text(fields, "identity"),
        workload=_optional_text(fields, "workload") or "",
        leaving=_flag(fields, "leaving"),
    )


def _decode_grant(data: object) -> Grant:
    fields = _object(data, "grant")
    port = fields.get("port")
    return Grant(
        target=_text(fields, "target"),
        sources=_text_set(fields, "sources"),
        source_pods=_text_set(fields, "source_pods"),
        port=None if port is None else _port(port, "port"),
        tcp=_decode_ports(fields.get("tcp")),
        udp=_decode_ports(fields.get("udp")),
        http=_decode_matches(fields, "http"),
    )


def _decode_split(data: object) -> Split:
    fields = _object(data, "split")
    return Split(
        name=_text(fields, "name"),
        matches=_decode_matches(fields, "matches"),
        backends=_items(fields, "backends", _decode_backend),
        fallback_root=_flag(fields, "fallback_root"),
    )


def _decode_backend(data: object) -> Backend:
    fields = _object(data, "backend")
    weight = fields.get("weight")
    if not isinstance(weight, int) or isinstance(weight, bool) or weight < 0:
        raise CodecError(f"weight: expected a whole number >= 0, got {_kind(weight)}")
    return Backend(service=_text(fields, "service"), weight=weight, cluster=_text(fields, "cluster"))


def _decode_matches(fields: Mapping[object, object], name: str) -> tuple[RouteMatch, ...] | None:
    return None if fields.get(name) is None else _items(fields, name, _decode_match)


def _decode_match(data: object) -> RouteMatch:
    fields = _object(data, "match")
    return RouteMatch(
        group=_text(fields, "group"),
        name=_text(fields, "name"),
        path=_optional_text(fields, "path"),
        methods=_text_set(fields, "methods"),
        headers=_items(fields, "headers", _decode_header),
        regex=_choice(fields, "regex", Regex, Regex.SPEC),
    )


def _decode_header(data: object) -> tuple[str, str]:
    pair = _array(data, "header")
    if len(pair) != 2:
        raise CodecError(f"header: expected [name, pattern], got {len(pair)} items")
    return _as_text(pair[0], "header"), _as_text(pair[1], "header")


def _decode_ports(data: object) -> PortSet | None:
    if data is None:
        return None
    fields = _object(data, "ports")
    ports = _array(fields.get("ports", []), "ports")
    return PortSet(_flag(fields, "every"), frozenset(_port(port, "ports") for port in ports))


def _decode_inbound_port(data: object) -> InboundPort:
    fields = _object(data, "port")
    return InboundPort(
        _port(fields.get("port"), "port"),
        _choice(fields, "protocol", Protocol, Protocol.DETECT),
        _optional_text(fields, "service") or "",
    )


def _decode_probe(data: object) -> Probe:
    fields = _object(data, "probe")
    return Probe(_port(fields.get("port"), "port"), _text(fields, "path"))


# --- readers of one field ---------------------------------------------------------------------


def _object(data: object, what: str) -> Mapping[object, object]:
    if not isinstance(data, dict):
        raise CodecError(f"{what}: expected an object, got {_kind(data)}")
    return data


def _array(data: object, what: str) -> list[object]:
    if not isinstance(data, list):
        raise CodecError(f"{what}: expected a list, got {_kind(data)}")
    return data


def _items(fields: Mapping[object, object], name: str, decode: Callable[[object], _T]) -> tuple[_T, ...]:
    return tuple(decode(item) for item in _array(fields.get(name, []), name))


def _text(fields: Mapping[object, object], name: str) -> str:
    return _as_text(fields.get(name), name)


def _optional_text(fields: Mapping[object, object], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


def _text_set(fields: Mapping[object, object], name: str) -> frozenset[str]:
    return frozenset(_as_text(item, name) for item in _array(fields.get(name, []), name))


def _as_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise CodecError(f"{name}: expected text, got {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell a lone surrogate; no consumer could encode it again
        raise CodecError(f"{name}: the text is not valid Unicode") from None
    return value


def _flag(fields: Mapping[object, object], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise CodecError(f"{name}: expected true or false, got {_kind(value)}")
    return value


def _number(fields: Mapping[object, object], name: str, least: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
        raise CodecError(f"{name}: expected a whole number >= {least}, got {_kind(value)}")
    return value


def _optional_number(fields: Mapping[object, object], name: str, least: int) -> int | None:
    return None if fields.get(name) is None else _number(fields, name, least)


def _seconds(fields: Mapping[object, object], name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise CodecError(f"{name}: expected seconds, got {_kind(value)}")
    return float(value)


def _port(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_PORT:
        raise CodecError(f"{name}: expected a port number, got {_kind(value)}")
    return value


def _choice(fields: Mapping[object, object], name: str, choices: type[_E], default: _E) -> _E:
    value = fields.get(name, default.value)
    if isinstance(value, str):
        try:
            return choices(value)
        except ValueError:
            pass
    raise CodecError(f"{name}: expected one of {', '.join(choices)}, got {_kind(value)}")


def _kind(value: object) -> str:
    """What a value is, for a message; the beginning of texts and numbers of a sane size are shown."""
    if isinstance(value, str):
        return repr(value[:40])
    if value is None or isinstance(value, bool | float):
        return str(value)
    if isinstance(value, int) and value.bit_length() <= 64:  # str() refuses enormous ones
        return str(value)
    return type(value).__name__
