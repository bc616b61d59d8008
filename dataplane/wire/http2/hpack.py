"""Field blocks (RFC 7541): both compression contexts of a connection.

Tables hold judged fields (`fields.Entry`), so that a field that is referred to costs one look-up,
check included. Literals that many messages repeat are remembered across connections with their
verdict; those with credentials and those that are never to be put into a table only within theirs,
those that are different each time not at all. Huffman codes are read by the native coder of `jh2`;
none are written, which saves both sides of a hop more time than the bytes cost.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from jh2._hazmat import Decoder, Encoder, HPACKError, OversizedHeaderListError

from dataplane.wire.http2.fields import LAST_PSEUDO, MALFORMED, OVERHEAD, Entry, Pair, judge
from dataplane.wire.http2.frames import BadConnection, Code

MAX_TABLE: Final = 4096
"""Bytes of dynamic table on either side: the protocol's default, which needs no agreement."""
SECRET: Final = frozenset({b"authorization", b"proxy-authorization"})
"""Never put into a compression table, whatever the sender did (RFC 7541 §7.1.3)."""
NOTHING: Final[frozenset[bytes]] = frozenset()

_LAST_STATIC: Final = 61
_MOST_REMEMBERED: Final = 2048
_LONGEST_REMEMBERED: Final = 256
_MOST_OWN: Final = 16
_NOT_REMEMBERED: Final = (
    SECRET
    | {b"cookie", b"set-cookie", b"www-authenticate", b"x-api-key", b"age", b"grpc-timeout"}
    | {b"traceparent", b"tracestate", b"x-request-id", b"b3"}
    | {b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid"}
)
"""Secrets, and what is different each time."""
_MOST_SEEN: Final = 512
_LARGEST_OCTETS: Final = 5
"""Octets of the longest integer taken: no index or length of ours needs more."""

_STATIC_TEXT: Final = (
    ":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|"
    ":status=204|:status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|"
    "accept-encoding=gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|"
    "allow|authorization|cache-control|content-disposition|content-encoding|content-language|"
    "content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|"
    "if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|"
    "max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|"
    "set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
"""RFC 7541, appendix A."""


def _static() -> list[Entry]:
    table = [((b"", b""), MALFORMED, OVERHEAD)]  # index 0 is not used
    for text in _STATIC_TEXT.split("|"):
        name, _, value = text.encode().partition(b"=")
        table.append(judge((name, value)))
    return table


_STATIC: Final = _static()
_LATE: Final[Entry] = ((b"", b""), MALFORMED, OVERHEAD)
"""Stands for a pseudo-header field behind others (RFC 9113 §8.3)."""


class Block:
    """A decoded field block: plain fields apart from those that messages treat in a way of their own."""

    __slots__ = ("plain", "secret", "size", "special")

    def __init__(self, plain: list[Pair], special: list[Entry], secret: frozenset[bytes], size: int) -> None:
        self.plain = plain
        self.special = special
        """In the order they came, MALFORMED ones among them."""
        self.secret = secret
        """Names of fields that must stay out of tables on the next hop, too."""
        self.size = size
        """Bytes of names and values."""


class Reader:
    """Decodes the blocks of one connection, in order."""

    __slots__ = ("_limit", "_most", "_own", "_size", "_table")

    def __init__(self, max_list: int) -> None:
        """`max_list`: size at which a list ends the connection (bytes, RFC 7541 §4.1)."""
        self._most = max_list
        self._table: list[Entry] = []  # the newest last
        self._own: dict[bytes, Entry] = {}
        """As `_REMEMBERED`, but what nobody else may profit from."""
        self._size = 0
        self._limit = MAX_TABLE

    def read(self, block: bytes) -> Block:
        """The fields of one block. Raises BadConnection: the tables of both sides may differ then."""
        table = self._table
        plain: list[Pair] = []
        special: list[Entry] = []
        secret = NOTHING
        total = 0
        at = 0
        end = len(block)
        try:
            while at < end:
                first = block[at]
                if first >= 0x80:
                    at += 1
                    index = first - 0x80
                    if index > _LAST_STATIC:
                        if index == 0x7F:
                            index, at = _number(block, at, 0x7F)
                        pair, kind, size = table[_LAST_STATIC - index]  # from the end: the newest has 62
                    elif index:
                        pair, kind, size = _STATIC[index]
                    else:
                        raise BadConnection(Code.COMPRESSION_ERROR, "a field block refers to nothing")
                elif first >= 0x40:
                    entry, at = self._literal(block, at, first & 0x3F, 0x3F)
                    pair, kind, size = entry
                    table.append(entry)
                    self._size += size
                    while self._size > self._limit:
                        self._size -= table.pop(0)[2]
                elif first < 0x20:
                    entry, at = self._literal(block, at, first & 0x0F, 0x0F)
                    pair, kind, size = entry
                    if first >= 0x10:
                        secret |= {pair[0]}
                elif plain or special:
                    raise BadConnection(Code.COMPRESSION_ERROR, "a table's size changes inside a block")
                else:
                    at = self._resize(block, at)
                    continue
                total += size
                if not kind:
                    plain.append(pair)
                elif kind <= LAST_PSEUDO and plain:
                    special.append(_LATE)
                else:
                    special.append((pair, kind, size))
        except IndexError:
            raise BadConnection(Code.COMPRESSION_ERROR, "a field block refers to nothing") from None
        if at != end:
            raise BadConnection(Code.COMPRESSION_ERROR, "a field block is cut off")
        if total > self._most:
            raise BadConnection(Code.ENHANCE_YOUR_CALM, "a field list is too large")
        return Block(plain, special, secret, total - OVERHEAD * (len(plain) + len(special)))

    def _literal(self, block: bytes, begin: int, index: int, mask: int) -> tuple[Entry, int]:
        """The literal that begins at `begin`, and where it ends. `index` is what its first octet says."""
        if 0 < index < mask:  # the usual: the name is in a table
            length = block[begin + 1] & 0x7F
            if length < 0x7F:
                end = begin + 2 + length
                if index <= _LAST_STATIC:
                    known = _REMEMBERED.get(block[begin:end])
                    if known is not None:
                        return known, end
        return self._new_literal(block, begin)

    def _new_literal(self, block: bytes, begin: int) -> tuple[Entry, int]:
        first = block[begin]
        mask = 0x3F if first >= 0x40 else 0x0F
        index = first & mask
        at = begin + 1
        if index == mask:
            index, at = _number(block, at, mask)
        value_at = at
        if index == 0:
            value_at = _string_end(block, at)
        end = _string_end(block, value_at)
        key = block[begin:end] if index <= _LAST_STATIC and end - begin <= _LONGEST_REMEMBERED else b""
        if key:
            known = _REMEMBERED.get(key) or self._own.get(key)
            if known is not None:
                return known, end
        if index == 0:
            name = _string(block, at, value_at)
        elif index <= _LAST_STATIC:
            name = _STATIC[index][0][0]
        else:
            name = self._table[_LAST_STATIC - index][0][0]
        entry = judge((name, _string(block, value_at, end)))
        if not key:
            pass
        elif 0x10 <= first < 0x20 or name in SECRET:
            if len(self._own) >= _MOST_OWN:
                self._own.clear()
            self._own[key] = entry
        elif name not in _NOT_REMEMBERED:
            if len(_REMEMBERED) >= _MOST_REMEMBERED:
                _REMEMBERED.clear()
            _REMEMBERED[key] = entry
        return entry, end

    def _resize(self, block: bytes, at: int) -> int:
        """A dynamic table size update (RFC 7541 §6.3)."""
        size = block[at] & 0x1F
        at += 1
        if size == 0x1F:
            size, at = _number(block, at, 0x1F)
        if size > MAX_TABLE:
            raise BadConnection(Code.COMPRESSION_ERROR, "a table grows beyond what was agreed")
        self._limit = size
        while self._size > size:
            self._size -= self._table.pop(0)[2]
        return at


_REMEMBERED: Final[dict[bytes, Entry]] = {}
"""Literal representations with a static or a literal name -> entry: they mean the same everywhere."""


def _number(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix is full with `value` (RFC 7541 §5.1), and where it ends."""
    shift = 0
    while True:
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
        shift += 7
        if shift >= 7 * _LARGEST_OCTETS:
            raise BadConnection(Code.COMPRESSION_ERROR, "a number in a field block is too large")


def _string_end(block: bytes, at: int) -> int:
    """Where the string literal at `at` ends."""
    length = block[at] & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _number(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise BadConnection(Code.COMPRESSION_ERROR, "a field block is cut off")
    return end


def _string(block: bytes, at: int, end: int) -> bytes:
    """The string literal from `at` to `end` (RFC 7541 §5.2)."""
    first = block[at]
    if first < 0x80:
        at += 1
        if first == 0x7F:
            _, at = _number(block, at, 0x7F)
        return block[at:end]
    text = block[at:end]
    try:
        # Decoded as the value of a field that no table takes, which needs no state. Whole strings only:
        # what is cut off makes that decoder panic.
        [(_, value, _)] = _HUFFMAN_DECODER.decode(b"\x00\x01x" + text, True)
    except (HPACKError, OversizedHeaderListError):
        raise BadConnection(Code.COMPRESSION_ERROR, "a string cannot be decoded") from None
    assert isinstance(value, bytes)
    if not _HUFFMAN_ENCODER.add((b"x", value), True, True).endswith(text):
        raise BadConnection(Code.COMPRESSION_ERROR, "the padding of a string is not as it must be")
    return value


_HUFFMAN_DECODER: Final = Decoder(1 << 24)
"""Without state: it is given nothing that enters a table."""
_HUFFMAN_ENCODER: Final = Encoder()
"""The same. There is one way to write a string; that decoder takes any padding, so the two are compared."""


class Writer:
    """Encodes the blocks of one connection, in order."""

    __slots__ = ("_added", "_known", "_limit", "_names", "_resized", "_seen", "_size", "_table")

    def __init__(self) -> None:
        self._known: dict[Pair, int] = dict(_STATIC_PAIRS)
        """Field -> minus its static index, or its number among all that ever entered the table."""
        self._names: dict[bytes, int] = {}
        """The same for names of the dynamic table; the newest wins."""
        self._table: deque[Pair] = deque()  # the oldest first
        self._added = 0
        self._size = 0
        self._limit = MAX_TABLE
        self._resized = -1
        """Smallest size since the last block; -1: it has not changed."""
        self._seen: set[int] = set()
        """Hashes of fields that came once: only what comes again is worth a place in the table."""

    def limit_table(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE."""
        wanted = min(size, MAX_TABLE)
        if wanted != self._limit:
            self._resized = wanted if self._resized < 0 else min(self._resized, wanted)
            self._limit = wanted
            self._evict()

    def write(self, fields: list[Pair], secret: frozenset[bytes] = NOTHING) -> bytes:
        """The block of `fields`. `secret`: names beyond `SECRET` that no table may take."""
        out = bytearray()
        if self._resized >= 0:
            self._announce(out)
        known = self._known
        newest = self._added + _LAST_STATIC + 1
        for pair in fields:
            place = known.get(pair)
            if place is None or secret:
                self._write(out, pair, secret)
                newest = self._added + _LAST_STATIC + 1
            elif place < 0:
                out.append(0x80 - place)
            elif newest - place < 0x7F:
                out.append(0x80 + newest - place)
            else:
                _write_number(out, 0x80, 0x7F, newest - place)
        return bytes(out)

    def _write(self, out: bytearray, pair: Pair, secret: frozenset[bytes]) -> None:
        """Any field, in whatever representation suits it."""
        name, value = pair
        if name in SECRET or name in secret:
            self._write_literal(out, 0x10, 0x0F, name, value)
            return
        place = self._known.get(pair)
        if place is not None:
            _write_number(out, 0x80, 0x7F, -place if place < 0 else self._added + _LAST_STATIC + 1 - place)
            return
        seen, mark = self._seen, hash(pair)
        if mark not in seen:
            if len(seen) >= _MOST_SEEN:
                seen.clear()
            seen.add(mark)
            self._write_literal(out, 0x00, 0x0F, name, value)
            return
        seen.discard(mark)
        self._write_literal(out, 0x40, 0x3F, name, value)
        self._size += len(name) + len(value) + OVERHEAD
        self._added += 1
        self._table.append(pair)
        self._known[pair] = self._names[name] = self._added
        if self._size > self._limit:
            self._evict()

    def _write_literal(self, out: bytearray, kind: int, mask: int, name: bytes, value: bytes) -> None:
        number = self._names.get(name)
        index = _STATIC_NAMES.get(name, 0) if number is None else self._added + _LAST_STATIC + 1 - number
        if index < mask:
            out.append(kind | index)
        else:
            _write_number(out, kind, mask, index)
        if not index:
            _write_string(out, name)
        _write_string(out, value)

    def _announce(self, out: bytearray) -> None:
        if self._resized < self._limit:
            _write_number(out, 0x20, 0x1F, self._resized)
        _write_number(out, 0x20, 0x1F, self._limit)
        self._resized = -1

    def _evict(self) -> None:
        table, known, names = self._table, self._known, self._names
        while self._size > self._limit:
            number = self._added - len(table) + 1
            pair = table.popleft()
            self._size -= len(pair[0]) + len(pair[1]) + OVERHEAD
            if known[pair] == number:
                del known[pair]
            if names.get(pair[0]) == number:
                del names[pair[0]]


def _write_number(out: bytearray, kind: int, mask: int, value: int) -> None:
    """An integer (RFC 7541 §5.1) behind the bits of `kind`."""
    if value < mask:
        out.append(kind | value)
        return
    out.append(kind | mask)
    value -= mask
    while value >= 0x80:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)


def _write_string(out: bytearray, text: bytes) -> None:
    if len(text) < 0x7F:
        out.append(len(text))
    else:
        _write_number(out, 0, 0x7F, len(text))
    out += text


def _static_names() -> dict[bytes, int]:
    names: dict[bytes, int] = {}
    for index, ((name, _), _, _) in enumerate(_STATIC):
        if index:
            names.setdefault(name, index)
    return names


_STATIC_NAMES: Final = _static_names()
_STATIC_PAIRS: Final = {
    entry[0]: -index for index, entry in reversed(list(enumerate(_STATIC))) if index and entry[0][1]
}
