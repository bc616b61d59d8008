"""S19: other people's URL libraries see the path that was authorised, its directory also once decoded."""

from __future__ import annotations

from urllib.parse import unquote, unquote_to_bytes, urljoin, urlsplit

import httptools
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from smi.policy.path import BadTarget, normalise_target

ALLOWED = b"/public/"
PIECES = st.sampled_from(
    b"/ // . .. ... a public secret %2e %2E%2e %2f %2F %5c \\ %25 %252e %252f %c0%ae %c0%af %e0%80%ae "
    b"\xc0\xae \xff %ff ; ;x=y %3b %3f %23 %70 %09 %0a %20 ? : @ ~ + %00".split(b" ")
)
TARGETS = st.lists(PIECES, max_size=10).map(lambda pieces: b"/" + b"".join(pieces))


def readings(path: bytes) -> dict[str, bytes]:
    """The path that libraries find in a target, escapes and all."""
    text = path.decode("ascii")
    return {
        "urllib": urlsplit(text).path.encode(),
        "urllib, as a reference": urlsplit(urljoin("http://a/b/c", text)).path.encode(),
        "yarl": URL("http://a" + text, encoded=True).raw_path.encode(),
        "httptools": httptools.parse_url(path).path,
    }


def decoded(path: bytes) -> dict[str, bytes]:
    """What applications are handed by their frameworks."""
    text = path.decode("ascii")
    return {
        "ASGI": unquote(text).encode(),
        "WSGI": unquote_to_bytes(path).decode("latin-1").encode("latin-1"),
        "yarl": URL("http://a" + text, encoded=True).path.encode(),
        "twice": unquote_to_bytes(unquote_to_bytes(path)),
    }


@example(b"/public/..%2fsecret")
@example(b"/public/%2e%2e/secret")
@example(b"/public/..;/secret")
@example(b"/public/\xc0\xae\xc0\xae/secret")
@example(b"/public%2f..%2fsecret")
@given(TARGETS)
def test_what_was_authorised_is_what_is_read(target: bytes) -> None:
    try:
        path, _ = normalise_target(target)
    except BadTarget:
        return
    for name, read in readings(path).items():
        assert read == path, name
    for name, seen in decoded(path).items():
        # The other way round does not hold: `/public%2fa` is not allowed, whatever is made of it.
        assert seen.startswith(ALLOWED) or not path.startswith(ALLOWED), (name, seen)
        assert b"/../" not in seen or b"%" in path, (name, seen)
