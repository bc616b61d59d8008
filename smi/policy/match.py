"""Does a request meet a match of an HTTPRouteGroup? (rules S16, S17, S19, reading R7)

`compile_match` does once per update whatever can be done once; `CompiledMatch.matches` runs per
request and works on bytes. Knows nothing of who calls or where the request goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from smi.policy.regex import (
    MAX_PATTERN_LENGTH,
    BytesTest,
    PatternError,
    check_pattern,
    path_test,
    shape_of,
    value_test,
)
from smi.policy.snapshot import Regex, RouteMatch

__all__ = [
    "MAX_PATTERN_LENGTH",
    "CompiledMatch",
    "PatternError",
    "Request",
    "check_pattern",
    "compile_match",
    "compile_matches",
]


class Request:
    """The head of a request as far as rules look at it.

    `path` is normal (`path.normalise_target`) and without query, `host` is the authority as sent
    (with its port if it has one), header names are lower-case.
    """

    __slots__ = ("headers", "host", "method", "path")

    def __init__(
        self, method: bytes, path: bytes, host: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.method = method
        self.path = path
        self.host = host
        self.headers = list(headers)

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, its lines joined with `, ` (RFC 9110 §5.3); None when absent.

        `host` means the authority, whatever the header lines say.
        """
        if name == b"host":
            return self.host or None
        found: bytes | None = None
        for key, value in self.headers:
            if key == name:
                found = value if found is None else found + b", " + value
        return found

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.path!r}, {self.host!r}, {self.headers!r})"


class CompiledMatch:
    """One RouteMatch, ready to be asked. Immutable by convention."""

    __slots__ = ("_headers", "_methods", "_path", "filters", "literal", "route")

    def __init__(
        self,
        route: RouteMatch,
        methods: frozenset[bytes] | None,
        path: BytesTest | None,
        headers: tuple[tuple[bytes, BytesTest | None], ...],
        literal: int,
    ) -> None:
        self.route = route
        self._methods = methods
        self._path = path
        self._headers = headers
        self.filters = len(headers)
        """Number of header filters (S11)."""
        self.literal = literal
        """Length of the path's literal beginning in bytes (S11, R4)."""

    def matches(self, request: Request) -> bool:
        """Whether everything this match asks for holds (AND)."""
        if self._methods is not None and request.method not in self._methods:
            return False
        if self._path is not None and not self._path(request.path):
            return False
        for name, test in self._headers:
            value = request.header(name)
            if value is None or (test is not None and not test(value)):
                return False
        return True

    def miss(self, request: Request) -> str:
        """The first thing that does not hold, in words; empty when the request matches."""
        where = f"match {self.route.name} of HTTPRouteGroup {self.route.group}"
        if self._methods is not None and request.method not in self._methods:
            return f"method {_show(request.method)} is not in {where}"
        if self._path is not None and not self._path(request.path):
            return f"path {_show(request.path)} does not match {self.route.path!r} in {where}"
        for name, test in self._headers:
            value = request.header(name)
            if value is None:
                return f"header {_show(name)}, asked for by {where}, is absent"
            if test is not None and not test(value):
                return f"header {_show(name)} does not match its filter in {where}"
        return ""


def compile_match(match: RouteMatch) -> CompiledMatch:
    """Prepare a match; raises PatternError if one of its patterns cannot be compiled."""
    whole = match.regex is Regex.FULL
    return CompiledMatch(
        route=match,
        methods=frozenset(method.encode() for method in match.methods) or None,
        path=None if match.path is None else path_test(match.path, whole),
        headers=tuple((name.encode(), value_test(pattern)) for name, pattern in match.headers),
        literal=0 if match.path is None else len(shape_of(match.path).literal.encode()),
    )


def compile_matches(matches: Iterable[RouteMatch], quarantined: list[str]) -> Iterator[CompiledMatch]:
    """Prepare several; one with a bad pattern is left out and noted in `quarantined` (R3)."""
    for match in matches:
        try:
            yield compile_match(match)
        except PatternError as error:
            quarantined.append(f"match {match.name} of HTTPRouteGroup {match.group}: {error}")


def _show(text: bytes, limit: int = 80) -> str:
    """Request text for a message: printable, and of bounded length."""
    shown = text[:limit].decode("ascii", errors="backslashreplace")
    return f"{shown}…" if len(text) > limit else shown
