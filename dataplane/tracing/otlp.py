"""Spans as OTLP in protobuf (opentelemetry-proto, `trace/v1/trace.proto`, v1): written by hand.

Ten messages whose numbers never change (docs/adr/0022-spans.md says why there is no library). Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from dataplane.tracing.semantics import SCHEMA, SCOPE, Attributes, Event, Record, Value

CONTENT_TYPE: Final = "application/x-protobuf"
PATH: Final = "/v1/traces"

_SERVER: Final = 2
_CLIENT: Final = 3
_ERROR: Final = 2
_FLAGS: Final = 0x01 | 0x100
"""Sampled; bit 8: it is known whether the parent is remote, bit 9: it is."""
_REMOTE: Final = 0x200
_TIME: Final = struct.Struct("<Q")
_BITS: Final = struct.Struct("<I")


def encode(records: Sequence[Record], resource: Attributes, version: str) -> bytes:
    """An ExportTraceServiceRequest."""
    spans = b"".join(_message(2, _span(one)) for one in records)
    scope = _message(1, _text(1, SCOPE) + _text(2, version)) + spans + _text(3, SCHEMA)
    whole = _message(1, _attributes(1, resource)) + _message(2, scope) + _text(3, SCHEMA)
    return _message(1, whole)


def rejected(answer: bytes) -> int:
    """How many spans an ExportTraceServiceResponse says were not taken (`partial_success.rejected_spans`).

    0 as well for what is no such message: the status said success.
    """
    try:
        for number, value in _read(answer):
            if number == 1 and isinstance(value, bytes):
                return max((one for key, one in _read(value) if key == 1 and isinstance(one, int)), default=0)
    except (ValueError, IndexError):
        pass
    return 0


def _span(one: Record) -> bytes:
    parent = one.parent
    return b"".join(
        (
            _bytes(1, bytes.fromhex(one.trace)),
            _bytes(2, bytes.fromhex(one.id)),
            _text(3, one.state) if one.state else b"",
            _bytes(4, bytes.fromhex(parent)) if parent else b"",
            _text(5, one.name),
            _number(6, _SERVER if one.server else _CLIENT),
            b"\x39" + _TIME.pack(one.start),
            b"\x41" + _TIME.pack(one.end),
            _attributes(9, one.attributes),
            b"".join(_message(11, _event(event)) for event in one.events),
            _message(15, _number(3, _ERROR)) if one.error else b"",
            b"\x85\x01" + _BITS.pack(_FLAGS | _REMOTE if parent else _FLAGS),
        )
    )


def _event(event: Event) -> bytes:
    return b"\x09" + _TIME.pack(event.time) + _text(2, event.name) + _attributes(3, event.attributes)


def _attributes(number: int, attributes: Attributes) -> bytes:
    """KeyValue messages."""
    return b"".join(
        [_message(number, _key(key) + _message(2, _any(value))) for key, value in attributes.items()]
    )


@lru_cache(maxsize=256)
def _key(key: str) -> bytes:
    """They are few, and the same for every span."""
    return _text(1, key)


def _any(value: Value) -> bytes:
    return _text(1, value) if isinstance(value, str) else b"\x18" + _varint(value)


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode("utf-8", "replace"))


def _message(number: int, body: bytes) -> bytes:
    return _bytes(number, body)


def _bytes(number: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes((size,)) if size < 128 else _varint(size)
    return bytes((number << 3 | 2,)) + length + body  # every number is below 16


def _number(number: int, value: int) -> bytes:
    return bytes((number << 3,)) + _varint(value)


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read(data: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a message; raises ValueError or IndexError for what is none."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = _read_varint(data, at)
            case 2:
                size, at = _read_varint(data, at)
                value, at = data[at : at + size], at + size
            case 1 | 5 as kind:
                size = 8 if kind == 1 else 4
                value, at = data[at : at + size], at + size
            case kind:
                raise ValueError(f"wire type {kind}")
        found.append((key >> 3, value))
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number of more than 64 bits")
