"""S19, R8: the normal form of a request target's path."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.policy.path import BadTarget, normalise_target


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        (b"/", b"/"),
        (b"/items", b"/items"),
        (b"/items/", b"/items/"),
        (b"/%41%7e%2D%5f", b"/A~-_"),
        (b"/a%2fb", b"/a%2fb"),
        (b"/a%2Fb", b"/a%2Fb"),
        (b"/a%252fb", b"/a%252fb"),
        (b"/%2e%2e/admin", b"/admin"),
        (b"/a/%2E%2e/b", b"/b"),
        (b"/a/./b/../c", b"/a/c"),
        (b"/..", b"/"),
        (b"/a/..", b"/"),
        (b"/a/b/.", b"/a/b/"),
        (b"/../../x", b"/x"),
        (b"/a//b///c", b"/a/b/c"),
        (b"//host/x", b"/host/x"),
        (b"/a//../b", b"/a/b"),  # dot segments first, then slashes (R8)
        (b"/...", b"/..."),
        (b"/.hidden", b"/.hidden"),
        (b"/a%0d%0ab", b"/a%0d%0ab"),
        (b"/%c0%af", b"/%c0%af"),  # overlong UTF-8 is never decoded
        (b"/\xc3\xa9", b"/%C3%A9"),
        (b"/a;b=c/d,e", b"/a;b=c/d,e"),
        (b"*", b"*"),
    ],
)
def test_s19_normal_form(target: bytes, normal: bytes) -> None:
    assert normalise_target(target) == (normal, b"")


@pytest.mark.parametrize("target", [b"/a?x=/../y//z", b"/a?", b"/a??", b"/a?%zz", b"/b/../a?x=%41"])
def test_s16_the_query_is_split_off_and_left_as_sent(target: bytes) -> None:
    path, query = normalise_target(target)
    assert path == b"/a"
    assert query == target[target.index(b"?") :]


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"items",
        b"?x",
        b"http://api/items",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/%00",
        b"/\x00",
        b"/a b",
        b"/a\tb",
        b"/a\r\nx: y",
        b"/a\x7f",
        b"/public#/../admin",
        b"/a?x\x00",
        b"/a?x y",
        b"*x",
    ],
)
def test_s19_targets_without_a_safe_form_are_refused(target: bytes) -> None:
    with pytest.raises(BadTarget):
        normalise_target(target)


_PIECES = st.sampled_from(
    [b"/", b".", b"..", b"a", b"%2e", b"%2F", b"%41", b"%25", b"%", b"2e", b"\xff", b"?", b"x", b"//", b"~"]
)


@given(st.lists(_PIECES, max_size=12).map(lambda pieces: b"/" + b"".join(pieces)))
def test_s19_idempotent_and_safe(target: bytes) -> None:
    try:
        path, query = normalise_target(target)
    except BadTarget:
        return
    assert normalise_target(path + query) == (path, query)
    assert path.startswith(b"/")
    assert path.isascii()
    assert b"//" not in path
    assert not {b".", b".."} & set(path.split(b"/"))


@given(st.binary(max_size=60))
def test_only_bad_target_escapes(target: bytes) -> None:
    with suppress(BadTarget):
        normalise_target(target)


@pytest.mark.parametrize(
    "target", [b"/" + b"a/" * 20_000 + b"\x00", b"/" + b"a" * 40_000 + b"%", b"/.." * 20_000, b"/" * 40_000]
)
def test_hostile_targets_take_linear_time(target: bytes) -> None:
    started = time.process_time()
    with suppress(BadTarget):
        normalise_target(target)
    # Milliseconds when linear; minutes, or never, when not.
    assert time.process_time() - started < 2
