"""Patterns as automata, held to RE2 itself and to the path that requests are brought into."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.explain import regular
from cli.explain.regular import Reading, UnknownError, find, header_values, machine, normal_paths, takes
from smi.policy.path import BadTarget, normalise_target
from smi.policy.regex import Anchor, PatternError, _compile, _runner, check_pattern

ATOMS = st.sampled_from(
    ["a", "b", "/", ".", r"\.", "[ab]", "[^a]", "[a-c/]", r"\d", r"\W", "^", "$", "", r"\/", "[]a]", "(?:)",
     r"[\w-]", "[[:alpha:]]", r"\x61", r"\Qa.\E", "A"]
)  # fmt: skip
QUANTITIES = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])


def quantified(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def put(atom: str, quantity: str) -> str:
        return atom + quantity if atom and atom not in ("^", "$") else atom

    return st.builds(put, inner, QUANTITIES)


PATTERNS = st.recursive(
    quantified(ATOMS),
    lambda inner: (
        st.builds("".join, st.lists(inner, min_size=1, max_size=4))
        | st.builds("|".join, st.lists(inner, min_size=2, max_size=3))
        | quantified(inner.map(lambda text: f"({text})"))
        | inner.map(lambda text: f"(?i:{text})")
        | inner.map(lambda text: f"(?i){text}")
    ),
    max_leaves=8,
)
TEXTS = st.text("abcA/.1-", max_size=6).map(str.encode)
ANCHORS = {
    Reading.ANYWHERE: Anchor.NONE,
    Reading.BEGINNING: Anchor.START,
    Reading.WHOLE: Anchor.BOTH,
}


def holds(pattern: str, reading: Reading, text: bytes) -> bool:
    """What RE2 says."""
    return _runner(_compile(pattern, ""), ANCHORS[reading])(text)


@given(PATTERNS, st.sampled_from(Reading), st.lists(TEXTS, min_size=1, max_size=8))
@settings(max_examples=80)
def test_an_automaton_takes_what_re2_takes(pattern: str, reading: Reading, texts: list[bytes]) -> None:
    try:
        check_pattern(pattern, "")
    except PatternError:
        return  # linting says so
    built = machine(pattern, reading)
    for text in texts:
        assert takes(built, text) is holds(pattern, reading, text), (pattern, reading, text)


@given(PATTERNS)
@settings(max_examples=40)
def test_a_text_that_tells_two_readings_apart_does_so(pattern: str) -> None:
    try:
        check_pattern(pattern, "")
        built = [machine(pattern, reading) for reading in (Reading.BEGINNING, Reading.WHOLE)]
        found = find((normal_paths(), *built), lambda said: said[1] is not said[2])
    except (PatternError, UnknownError):
        return
    if found is None:
        for path in (b"/", b"/a", b"/a/b", b"/a/b/", b"/b.a", b"*", b"/%2F"):
            assert holds(pattern, Reading.BEGINNING, path) is holds(pattern, Reading.WHOLE, path)
    else:
        assert normalise_target(found) == (found, b"")
        assert holds(pattern, Reading.BEGINNING, found) is not holds(pattern, Reading.WHOLE, found)


@settings(max_examples=60)
@given(st.binary(max_size=6) | st.text("/.%2Fae0b?*", max_size=9).map(lambda text: f"/{text}".encode()))
def test_normal_paths_are_those_that_normalising_leaves_as_they_are(path: bytes) -> None:
    try:
        normal = normalise_target(path) == (path, b"")
    except BadTarget:
        normal = False
    assert takes(normal_paths(), path) is normal


@pytest.mark.parametrize(
    ("pattern", "other"),
    [
        ("/items", "/items/"), ("/items$", None), ("/items.*", None), ("(/a$|/b.*)", None), (r"/a\z", None),
        ("/items(/.*)?", "/itemsa"), ("/items(/.*|$)", None), ("(/a|/b)", "/a/"), ("/a(.|$)*", None),
        ("(?i)/a$", None), ("((/a)(.*))", None), ("/a[^?]*", None), ("/a.+", None), (r"/a[\s\S]*", None),
        ("/a[a-z]*", "/a/"), ("^/a$", None), ("items", None), ("/a?$|b", None), ("/a//b", None),
    ],
)  # fmt: skip
def test_what_two_readings_of_a_path_make_of_it(pattern: str, other: str | None) -> None:
    built = [machine(pattern, reading) for reading in (Reading.BEGINNING, Reading.WHOLE)]
    found = find((normal_paths(), *built), lambda said: said[1] is not said[2])
    assert found == (None if other is None else other.encode())


@pytest.mark.parametrize("pattern", [r"\ba", "(?m)^a", r"\pL", "é", "(?:a{1000}){1000}", r"\x{e9}"])
def test_what_is_not_looked_into_is_said(pattern: str) -> None:
    with pytest.raises(UnknownError):
        machine(pattern, Reading.WHOLE)


def test_a_walk_that_would_not_end_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular, "MAX_STEPS", 2000)
    both = [machine(".*a" + "." * number, Reading.WHOLE) for number in (14, 15)]
    with pytest.raises(UnknownError, match="too much"):
        find((header_values(), *both), lambda said: said[1] and said[2] and not said[0])
