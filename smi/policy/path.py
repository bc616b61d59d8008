"""The one normal form of a request target's path (rule S19, reading R8).

Both proxies of a hop call this once per request, before anything is matched, and forward the
result: what was authorised is what the app receives. Knows nothing of routes or HTTP versions.
"""

from __future__ import annotations

import re
from typing import Final

_PLAIN_PATH: Final = rb"(?=/)(?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*+)*+/?"
_PLAIN: Final = re.compile(_PLAIN_PATH + rb"\Z")
"""Paths that are normal already: no segment is empty, begins with a dot or holds a percent sign.
Possessive throughout, so that a path that is not normal is found out in linear time."""
_PLAIN_WITH_QUERY: Final = re.compile(rb"(" + _PLAIN_PATH + rb")(\?[^\x00-\x20\x7f#]*+)\Z")
_TARGET: Final = re.compile(rb"[^\x00-\x20\x7f#]*\Z")
"""No control characters, no space (RFC 9112 §3.2), no fragment (RFC 9112 §3.2.1 has none)."""
_BAD_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_HIGH: Final = re.compile(rb"[\x80-\xff]")
_SLASHES: Final = re.compile(rb"//+")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class BadTarget(ValueError):  # noqa: N818 - contract name; says what the target is
    """The request target has no safe normal form; the answer is 400."""


def normalise_target(target: bytes) -> tuple[bytes, bytes]:
    """Split an origin-form target into (normal path, query).

    The query keeps its leading `?` and is passed on as sent; it is `b""` where there is none.
    `*` (RFC 9112 §3.2.4) stays as it is. Percent-encoded unreserved characters are decoded
    (RFC 3986 §6.2.2.2), dot segments removed (§5.2.4), then repeated slashes merged; every other
    escape, `%2f` above all, stays as sent. Raw bytes over 0x7f, which RFC 3986 does not know but
    clients send, are percent-encoded, so that a normal path is printable ASCII.

    Idempotent. Raises BadTarget for control characters, `#`, a `%` without two hex digits, an
    encoded NUL, and a target that does not begin with `/`.
    """
    if _PLAIN.match(target):  # there is no question mark either
        return target, b""
    found = _PLAIN_WITH_QUERY.match(target)
    if found is not None:
        normal, plain_query = found.groups()
        return normal, plain_query
    path, mark, rest = target.partition(b"?")
    if not _TARGET.match(target):
        raise BadTarget("the request target contains a control character, a space or '#'")
    query = mark + rest
    if _PLAIN.match(path) or path == b"*":
        return path, query
    if not path.startswith(b"/"):
        raise BadTarget("the request target must be a path that begins with '/'")
    return _normalise_path(path), query


def _normalise_path(path: bytes) -> bytes:
    if b"%" in path:
        if _BAD_PERCENT.search(path):
            raise BadTarget("the path contains '%' without two hexadecimal digits")
        path = _PERCENT.sub(_decode_unreserved, path)
    path = _HIGH.sub(_encode, path)
    return _SLASHES.sub(b"/", _remove_dot_segments(path))


def _decode_unreserved(escape: re.Match[bytes]) -> bytes:
    value = int(escape[1], 16)
    if value == 0:
        raise BadTarget("the path contains an encoded NUL")
    return bytes((value,)) if value in _UNRESERVED else escape[0]


def _encode(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % byte[0][0]


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 §5.2.4 for an absolute path; `..` above the root stays at the root."""
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    segments = path[1:].split(b"/")
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
