"""Kubernetes' protobuf request bodies as JSON objects, driven by a table of message layouts.

client-go and some kubectl commands send protobuf and nothing else. Envelope and rules: kubernetes-api.md,
Appendix A. Answers are always JSON. Every failure is an ApiError 400.
"""

from __future__ import annotations

import base64
import gzip
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from localmesh.apiserver.errors import bad_request
from localmesh.apiserver.jsonvalue import JsonObject, loads

PATH = Path(__file__).with_name("data") / "protobuf.json.gz"
MAGIC: Final = b"k8s\x00"
MAX_DEPTH = 64
SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float"})
_META = "k8s.io.apimachinery.pkg.apis.meta.v1."
_RUNTIME = "k8s.io.apimachinery.pkg.runtime."
_EXTENSIONS = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions."


class _MalformedError(ValueError):
    """The bytes are no message."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str  # "" when the struct is inlined
    type: str  # without the list or map marker
    repeated: bool
    mapping: bool
    keeps_zero: bool  # pointer, or always written: a zero is a value
    pointer: bool


@cache
def _table() -> Mapping[str, Mapping[int, _Field]]:
    raw = loads(gzip.decompress(PATH.read_bytes()))
    return {
        name: {int(number): _field(*parts) for number, parts in fields.items()}
        for name, fields in raw.items()
    }


def _field(name: str, kind: str, flag: str) -> _Field:
    inner = kind.removeprefix("[]").removeprefix("{}")
    return _Field(name, inner, kind.startswith("[]"), kind.startswith("{}"), flag in ("*", "!"), flag == "*")


def decode(body: bytes) -> JsonObject:
    """The object in a request body."""
    try:
        return _decode(body)
    except (ValueError, OverflowError, OSError, IndexError, struct.error) as error:
        # Also what strange numbers do to datetime: OverflowError, OSError.
        raise bad_request(f"the object provided is unrecognized: {error}") from error


def _decode(body: bytes) -> JsonObject:
    if not body.startswith(MAGIC):
        raise _MalformedError("expected the prefix of Kubernetes protobuf")
    envelope = {number: value for number, value in _fields(body[len(MAGIC) :]) if isinstance(value, bytes)}
    kind_of = _only(envelope.get(1, b""))
    api_version, kind = (_bytes(kind_of.get(number, b"")).decode() for number in (1, 2))
    name = _package(api_version) + kind
    if name not in _table():
        name = _META + kind
    if name not in _table():
        raise bad_request(f'no kind "{kind}" is registered for version "{api_version}" in protobuf')
    return {"apiVersion": api_version, "kind": kind, **_message(name, envelope.get(2, b""), 0)}


def _package(api_version: str) -> str:
    group, _, version = api_version.rpartition("/")
    if group == "apiextensions.k8s.io":
        return f"{_EXTENSIONS}{version}."
    return f"k8s.io.api.{group.partition('.')[0] or 'core'}.{version}."


# --- wire format (protobuf encoding guide) -----------------------------------------------------------


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise _MalformedError("a number is longer than 64 bits")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        match key & 7:
            case 0:
                value, position = _varint(data, position)
                yield key >> 3, value
                continue
            case 1:
                length = 8
            case 2:
                length, position = _varint(data, position)
            case 5:
                length = 4
            case wire:
                raise _MalformedError(f"unknown wire type {wire}")
        if position + length > end:
            raise _MalformedError("a field is cut short")
        yield key >> 3, data[position : position + length]
        position += length


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise _MalformedError("expected a number")
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _MalformedError("expected bytes")
    return value


# --- values ------------------------------------------------------------------------------------------


def _message(name: str, data: bytes, depth: int) -> JsonObject:
    if depth > MAX_DEPTH:
        raise _MalformedError("nested too deeply")
    layout = _table().get(name, {})  # absent: an alpha type of a group we do not serve
    result: JsonObject = {}
    for number, raw in _fields(data):
        field = layout.get(number)
        if field is None:
            continue  # a newer client's field
        if field.mapping:
            key, value = _entry(field.type, _bytes(raw), depth)
            result.setdefault(field.name, {})[key] = value
            continue
        value = _value(field.type, raw, depth)
        if field.repeated:
            result.setdefault(field.name, []).append(value)
        elif not field.name:
            result.update(value if isinstance(value, dict) else {})
        elif value is not None and (field.keeps_zero or value not in ("", 0, {})):
            result[field.name] = value
    return result


def _entry(kind: str, data: bytes, depth: int) -> tuple[str, Any]:
    key, value = "", _empty(kind)
    for number, raw in _fields(data):
        if number == 1:
            key = _bytes(raw).decode()
        elif number == 2:
            value = _value(kind, raw, depth)
    return key, value


def _empty(kind: str) -> Any:
    return "" if kind in ("string", "bytes") else {} if kind not in SCALARS else 0


def _value(kind: str, raw: int | bytes, depth: int) -> Any:
    match kind:
        case "string":
            return _bytes(raw).decode()
        case "bytes":
            return base64.b64encode(_bytes(raw)).decode()
        case "bool":
            return bool(raw)
        case "double":
            return struct.unpack("<d", _bytes(raw))[0]
        case "float":
            return struct.unpack("<f", _bytes(raw))[0]
        case "int32" | "int64" | "uint32" | "uint64":
            return _signed(raw)
    special = _SPECIAL.get(kind) or (_strings if _is_list(kind) else None)
    return special(_bytes(raw)) if special is not None else _message(kind, _bytes(raw), depth + 1)


@cache
def _is_list(kind: str) -> bool:
    """Whether a message only wraps a list of strings (Verbs, ExtraValue) and is a plain list in JSON."""
    fields = list(_table().get(kind, {}).values())
    return len(fields) == 1 and not fields[0].name and fields[0].repeated and fields[0].type == "string"


def _only(data: bytes) -> dict[int, int | bytes]:
    return dict(_fields(data))


def _time(data: bytes, *, micro: bool = False) -> str | None:
    fields = _only(data)
    if not fields:
        return None  # Go's zero time
    moment = datetime.fromtimestamp(_signed(fields.get(1, 0)), UTC)
    fraction = f".{_signed(fields.get(2, 0)) // 1000:06d}" if micro else ""
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def _micro_time(data: bytes) -> str | None:
    return _time(data, micro=True)


def _int_or_string(data: bytes) -> int | str:
    fields = _only(data)
    return _bytes(fields.get(3, b"")).decode() if fields.get(1) else _signed(fields.get(2, 0))


def _quantity(data: bytes) -> str:
    return _bytes(_only(data).get(1, b"0")).decode()


def _json(data: bytes) -> Any:
    text = _bytes(_only(data).get(1, b""))
    try:
        return loads(text) if text else None
    except ValueError as error:
        raise _MalformedError(f"embedded JSON: {error}") from error


def _strings(data: bytes) -> list[str]:
    return [_bytes(value).decode() for number, value in _fields(data) if number == 1]


def _duration(data: bytes) -> str:
    return f"{_signed(_only(data).get(1, 0)) / 1e9:g}s"


_SPECIAL: Mapping[str, Callable[[bytes], Any]] = {
    f"{_META}Time": _time,
    f"{_META}MicroTime": _micro_time,
    f"{_META}Duration": _duration,
    f"{_META}FieldsV1": _json,
    f"{_RUNTIME}RawExtension": _json,
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "k8s.io.apimachinery.pkg.api.resource.Quantity": _quantity,
    f"{_EXTENSIONS}v1.JSON": _json,
}
