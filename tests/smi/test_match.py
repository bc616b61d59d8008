"""S16, S17, S18, R7: patterns and matches."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from smi.policy.match import MAX_PATTERN_LENGTH, PatternError, Request, check_pattern, compile_match
from smi.policy.regex import _words, path_test, shape_of, value_test
from smi.policy.snapshot import Regex, RouteMatch


def route(
    path: str | None = None,
    methods: tuple[str, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
    regex: Regex = Regex.SPEC,
) -> RouteMatch:
    return RouteMatch("shop/routes", "m", path, frozenset(methods), headers, regex)


def get(
    path: bytes = b"/", *headers: tuple[bytes, bytes], method: bytes = b"GET", host: bytes = b"api"
) -> Request:
    return Request(method, path, host, headers)


@pytest.mark.parametrize(
    ("pattern", "path", "spec", "full"),
    [
        ("/items", b"/items", True, True),
        ("/items", b"/items/1", True, False),
        ("/items", b"/x/items", False, False),
        ("items", b"/items", False, False),
        ("^/items", b"/items", True, True),
        ("/items$", b"/items", True, True),
        ("/items$", b"/items/1", False, False),
        ("/items/.*", b"/items/1", True, True),
        ("/items/.*", b"/items", False, False),
        (".*", b"/anything", True, True),
        (".*items", b"/x/items", True, True),
        ("/v[0-9]+/(a|b)", b"/v12/b", True, True),
        ("/v[0-9]+/(a|b)", b"/v12/bc", True, False),
        ("/a|/b", b"/b/c", True, False),
        ("/a|/b", b"/b", True, True),
        ("/a\\.b", b"/a.b", True, True),
        ("/a\\.b", b"/axb", False, False),
        ("/a.b", b"/axb", True, True),
        ("/items?", b"/item", True, True),
        ("(?i)/ITEMS", b"/items", True, True),
        ("\\Q/a.b\\E", b"/a.b", True, True),
        ("", b"/x", True, False),
    ],
)
def test_s16_path_is_anchored_at_its_start_only(pattern: str, path: bytes, spec: bool, full: bool) -> None:
    assert compile_match(route(pattern)).matches(get(path)) is spec
    assert compile_match(route(pattern, regex=Regex.FULL)).matches(get(path)) is full


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("Firefox", b"Mozilla Firefox/99", True),
        (".*Firefox.*", b"Mozilla Firefox/99", True),
        ("^Firefox$", b"Mozilla Firefox/99", False),
        ("^Firefox$", b"Firefox", True),
        ("^Moz", b"Mozilla", True),
        ("lla$", b"Mozilla", True),
        ("^(.*?;)?(type=insider)(;.*)?$", b"a=b;type=insider;c=d", True),
        ("^(.*?;)?(type=insider)(;.*)?$", b"a=b;type=outsider", False),
        ("", b"", True),
        (".*", b"x", True),
        ("a|b$", b"ax", True),
        (".*?x", b"y", False),
        (".**", b"", None),
        (".*+", b"", None),
    ],
)
def test_s16_header_values_are_searched(pattern: str, value: bytes, expected: bool | None) -> None:
    match = route(headers=(("user-agent", pattern),))
    if expected is None:
        with pytest.raises(PatternError):
            compile_match(match)
    else:
        assert compile_match(match).matches(get(b"/", (b"user-agent", value))) is expected


def test_s16_and_inside_a_match() -> None:
    compiled = compile_match(route("/a", ("GET",), (("x", "1"), ("y", "2"))))
    assert compiled.matches(get(b"/a", (b"x", b"1"), (b"y", b"2")))
    assert not compiled.matches(get(b"/a", (b"x", b"1")))
    assert not compiled.matches(get(b"/b", (b"x", b"1"), (b"y", b"2")))
    assert not compiled.matches(get(b"/a", (b"x", b"1"), (b"y", b"2"), method=b"POST"))


def test_s17_no_methods_means_any() -> None:
    assert compile_match(route()).matches(get(method=b"BREW"))


def test_s17_host_means_the_authority_with_its_port() -> None:
    compiled = compile_match(route(headers=(("host", r"^api\.shop:8080$"),)))
    assert compiled.matches(get(host=b"api.shop:8080"))
    assert not compiled.matches(get(b"/", (b"host", b"api.shop:8080"), host=b"api.shop"))


def test_r7_a_lower_case_method_is_another_method() -> None:
    assert not compile_match(route(methods=("GET",))).matches(get(method=b"get"))


def test_r7_an_absent_header_never_matches() -> None:
    compiled = compile_match(route(headers=(("x", ".*"),)))
    assert not compiled.matches(get())
    assert compiled.matches(get(b"/", (b"x", b"")))


def test_r7_several_lines_are_joined() -> None:
    compiled = compile_match(route(headers=(("x", "^a, b$"),)))
    assert compiled.matches(get(b"/", (b"x", b"a"), (b"other", b"z"), (b"x", b"b")))


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "a{1001}", r"\1", "(?=a)", "a" * (MAX_PATTERN_LENGTH + 1), "\ud800"]
)
def test_s18_bad_patterns_are_refused_with_their_place(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"^spec\.matches\[0\]"):
        check_pattern(pattern, "spec.matches[0].pathRegex")


def test_s18_a_pattern_that_would_need_too_much_memory_is_refused() -> None:
    with pytest.raises(PatternError, match="too large"):
        check_pattern(r"\pL{1000}", "x")


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        ("/items", "/items"),
        ("^/items", "/items"),
        ("/items/.*", "/items/"),
        ("/items?", "/item"),
        ("/items{2}", "/item"),
        ("/api/(a|b)", "/api/"),
        ("/a|/b", ""),
        ("(/a|/b)", ""),
        (r"/a\.b[0-9]", "/a.b"),
        (r"/a\d", "/a"),
        (r"/a\|b", "/a|b"),
        ("/a[|]b", "/a"),
        ("/a[]|]b", "/a"),
        ("/a[[:alpha:]|]b", "/a"),
        (r"\Q/a|b\E", ""),
        ("", ""),
    ],
)
def test_r4_literal_prefix(pattern: str, literal: str) -> None:
    assert shape_of(pattern).literal == literal
    assert compile_match(route(pattern)).literal == len(literal)


_PIECES = [
    *(".*", "^", "$", "a", "/", "/a", "b", r"\.", r"\/", r"\-", ".", "a?", "b+", "a*", "(a|b)", "|"),
    *(
        "[ab]",
        "[|]",
        "x{2}",
        "{",
        "}",
        "]",
        "(?i)",
        "(?:a|/)",
        "(/|b|)",
        r"(\.|a)",
        r"\d",
        r"\Qa|\E",
        "a{2}",
        "?",
        "*",
        "+",
        "-",
        "é",
    ),
]
_PATTERNS = st.lists(st.sampled_from(_PIECES), max_size=5).map("".join)
_PATHS = st.text(alphabet="/ab.-x{}]A0|$^", max_size=6).map(str.encode)


@pytest.mark.parametrize("pattern", ["a(?i)?", "a(?i)(?s)*", r"a\Q\E?", "ba(?i)?"])
def test_a_quantifier_reaches_through_what_vanishes(pattern: str) -> None:
    path = b"b" if pattern.startswith("b") else b""
    test = path_test(pattern, whole=False)
    assert test is None or test(path)


@given(_PATTERNS, _PATHS, st.booleans())
def test_path_fast_paths_agree_with_re2(pattern: str, path: bytes, whole: bool) -> None:
    try:
        test = path_test(pattern, whole)
    except PatternError:
        return
    options = re2.Options()
    options.log_errors = False
    engine = re2.compile(pattern, options)
    expected = engine.fullmatch(path) if whole else engine.match(path)
    assert (test is None or test(path)) == (expected is not None)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("/(api|bytes)/.*", [b"/api/", b"/bytes/"]),
        (r"^/v(1|2)\.(0|5)$", [b"/v1.0", b"/v1.5", b"/v2.0", b"/v2.5"]),
        ("/(a|b)?/.*", []),
        ("/(a|b)(?i)+.*", []),
        ("/" + "(a|b)" * 6, []),
    ],
)
def test_literals_to_choose_from_need_no_engine(pattern: str, words: list[bytes]) -> None:
    assert _words(pattern)[0] == words
    for word in words:
        test = path_test(pattern, whole=False)
        assert test is not None
        assert test(word)
        assert not test(word[:-1])


@given(_PATTERNS, st.binary(max_size=5) | _PATHS)
def test_value_fast_paths_agree_with_re2(pattern: str, value: bytes) -> None:
    try:
        test = value_test(pattern)
    except PatternError:
        return
    options = re2.Options()
    options.log_errors = False
    assert (test is None or test(value)) == (re2.compile(pattern, options).search(value) is not None)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            get(b"/a", (b"x", b"1"), method=b"PUT"),
            "method PUT is not in match m of HTTPRouteGroup shop/routes",
        ),
        (get(b"/b", (b"x", b"1")), "path /b does not match '/a' in match m of HTTPRouteGroup shop/routes"),
        (get(b"/a"), "header x, asked for by match m of HTTPRouteGroup shop/routes, is absent"),
        (
            get(b"/a", (b"x", b"2")),
            "header x does not match its filter in match m of HTTPRouteGroup shop/routes",
        ),
        (get(b"/a", (b"x", b"1")), ""),
    ],
)
def test_a_miss_says_what_does_not_hold(request_: Request, words: str) -> None:
    assert compile_match(route("/a", ("GET",), (("x", "1"),))).miss(request_) == words


def test_a_miss_is_printable_and_bounded() -> None:
    words = compile_match(route("/a")).miss(get(b"/\xff\x1b" + b"b" * 10_000))
    assert words.isascii() or "…" in words
    assert len(words) < 300
