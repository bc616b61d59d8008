"""Field blocks (RFC 7541) by the native coder of `jh2`, with a check in front that it needs.

That decoder panics on some cut-off blocks, and its panic prints to standard error before Python
sees it. So every block's layout is walked first: afterwards no length reaches beyond the block.
"""

from __future__ import annotations

from typing import Final, cast

from jh2._hazmat import Decoder, Encoder, HPACKError, OversizedHeaderListError

from dataplane.wire.http2.frames import BadConnection, Code

Field = tuple[bytes, bytes, bool]
"""Name, value, and whether it must never be put into a table (RFC 7541 §7.1.3)."""

MAX_TABLE: Final = 4096
"""Bytes of dynamic table on either side: the protocol's default, which needs no agreement."""


class Reader:
    """Decodes the blocks of one connection, in order."""

    __slots__ = ("_decoder",)

    def __init__(self, max_list: int) -> None:
        """`max_list`: size at which a list is not decoded any further (bytes, RFC 7541 §4.1)."""
        self._decoder = Decoder(max_list)

    def read(self, block: bytes) -> list[Field]:
        """The fields of one block. Raises BadConnection: the tables of both sides may differ then."""
        if not _is_whole(block):
            raise BadConnection(Code.COMPRESSION_ERROR, "a field block is cut off")
        try:
            return cast("list[Field]", self._decoder.decode(block, True))
        except OversizedHeaderListError:
            raise BadConnection(Code.ENHANCE_YOUR_CALM, "a field list is too large") from None
        except HPACKError:
            raise BadConnection(Code.COMPRESSION_ERROR, "a field block cannot be decoded") from None


class Writer:
    """Encodes the blocks of one connection, in order."""

    __slots__ = ("_encoder",)

    def __init__(self) -> None:
        self._encoder = Encoder()

    def limit_table(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE."""
        wanted = min(size, MAX_TABLE)
        if wanted != self._encoder.header_table_size:
            self._encoder.header_table_size = wanted

    def write(self, fields: list[Field]) -> bytes:
        return cast("bytes", self._encoder.encode(fields, True))


def _is_whole(block: bytes) -> bool:
    """Whether every representation (RFC 7541 §6) ends inside the block, table sizes coming first."""
    at, size = 0, len(block)
    begun = False
    while at < size:
        first = block[at]
        if first >= 0x80:  # indexed
            begun = True
            at = at + 1 if first < 0xFF else _after_number(block, at)
            continue
        if 0x20 <= first < 0x40:  # dynamic table size update
            if begun:
                return False
            at = at + 1 if first < 0x3F else _after_number(block, at)
            continue
        begun = True
        mask = 0x3F if first >= 0x40 else 0x0F  # literal, with or without indexing
        index = first & mask
        at = at + 1 if index < mask else _after_number(block, at)
        at = _after_string(block, at)
        if index == 0:
            at = _after_string(block, at)
    return at == size


def _after_number(block: bytes, at: int) -> int:
    """Index behind a number that fills its prefix; beyond the block if it does not end there."""
    at += 1
    size = len(block)
    while at < size and block[at] >= 0x80:
        at += 1
    return at + 1


def _after_string(block: bytes, at: int) -> int:
    """Index behind a string literal; beyond the block if it does not fit."""
    beyond = len(block) + 1
    if at >= len(block):
        return beyond
    length = block[at] & 0x7F
    if length < 0x7F:
        return at + 1 + length
    end = _after_number(block, at)
    if end > len(block) or end - at > 5:  # no length of ours needs more octets
        return beyond
    for place, octet in enumerate(block[at + 1 : end]):
        length += (octet & 0x7F) << 7 * place
    return end + length
