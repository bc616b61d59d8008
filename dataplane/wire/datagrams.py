"""Datagrams of many flows on one byte stream: the frames of the mesh port's `smi-udp` protocol.

A frame is a header of 7 bytes, network order (flow: 4, length: 2, kind: 1), and `length` bytes of
payload. The opener of the stream numbers the flows. Pure; knows neither TLS nor sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from dataplane.wire.errors import BadMessage

_HEADER: Final = struct.Struct("!IHB")
HEADER_SIZE: Final = _HEADER.size
MAX_PAYLOAD: Final = 65507
"""Most payload of a UDP datagram over IPv4: 65535 less 20 for IP and 8 for UDP (RFC 768, RFC 791)."""
MAX_FLOW: Final = 0xFFFFFFFF


class Kind(IntEnum):
    DATAGRAM = 0
    END = 1
    """The opener has forgotten the flow. No payload."""


@dataclass(frozen=True, slots=True)
class Frame:
    flow: int
    kind: Kind
    payload: bytes = b""


def encode(flow: int, payload: bytes) -> bytes:
    """One datagram of `flow` as a frame. `payload` has at most MAX_PAYLOAD bytes."""
    return _HEADER.pack(flow, len(payload), Kind.DATAGRAM) + payload


def encode_end(flow: int) -> bytes:
    return _HEADER.pack(flow, 0, Kind.END)


class Decoder:
    """Bytes as they come → frames. Holds at most one unfinished frame."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def unfinished(self) -> bool:
        """Whether a part of a frame waits for its rest."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that `data` completes. Raises BadMessage for a frame that no peer of ours sends;
        the stream can only be closed then."""
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        try:
            while size - at >= HEADER_SIZE:
                flow, length, kind = _HEADER.unpack_from(buffer, at)
                _check(length, kind)
                end = at + HEADER_SIZE + length
                if end > size:
                    break
                yield Frame(flow, Kind(kind), buffer[at + HEADER_SIZE : end])
                at = end
        finally:
            self._rest = buffer[at:] if at else buffer


def _check(length: int, kind: int) -> None:
    if length > MAX_PAYLOAD:
        raise BadMessage("a frame is longer than any datagram")
    if kind not in (Kind.DATAGRAM, Kind.END) or (kind == Kind.END and length):
        raise BadMessage("a frame is of no known kind")
