"""The regular expression engine behind every pattern (rule S18): RE2, linear time, bounded.

Also reads the literal beginning off a pattern, which gives the fast paths of `match` and the
"longer literal path" of S11/R4. Knows patterns and bytes, nothing of routes or requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re2

MAX_PATTERN_LENGTH: Final = 1024
"""Characters of one pattern (S18)."""
_MAX_PROGRAM_BYTES: Final = 1 << 20
"""RE2's budget for one compiled pattern; it refuses what does not fit."""

BytesTest = Callable[[bytes], bool]

_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_OPERATORS: Final = frozenset("\\.[(|)*+?{^$")
_QUANTIFIERS: Final = frozenset("*+?{")


class PatternError(ValueError):
    """A pattern is too long or not in RE2's syntax. The text says where and why."""


class Anchor(Enum):
    """How much of the value a pattern has to cover, by RE2's name for it."""

    NONE = "UNANCHORED"
    START = "ANCHOR_START"
    BOTH = "ANCHOR_BOTH"


_OFFERS: Final = re.compile(
    r"\((?:\?:)?((?:[A-Za-z0-9/_~%=@:;,&!-]|\\[!-/:-@\[-`{-~])*(?:\|(?:[A-Za-z0-9/_~%=@:;,&!-]|\\[!-/:-@\[-`{-~])*)*)\)"
)
"""A group of literals to choose from."""
_ESCAPE: Final = re.compile(r"\\(.)")
_MOST_WORDS: Final = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern cut at its first operator: `anchored` (it began with `^`), literal text, the rest."""

    anchored: bool
    literal: str
    rest: str


def check_pattern(text: str, where: str) -> None:
    """Raise PatternError, its message beginning with `where`, unless `text` can be compiled."""
    _compile(text, where)


_TRANSPARENT: Final = ("(?", "\\Q", "\\E")
"""What may vanish while parsing (flags, empty quotes), so that a quantifier behind it binds to the character
before it: `a(?i)?` is `a?`."""


def shape_of(pattern: str) -> Shape:
    """Cut a pattern at its first operator. An alternation at top level has no literal part (R4).

    A character with a quantifier belongs to the rest: in `/items?` the literal is `/item`.
    """
    anchored = pattern.startswith("^")
    body = pattern[1:] if anchored else pattern
    if _has_top_level_alternation(body):
        return Shape(False, "", pattern)
    literal, rest = _literal(body)
    return Shape(anchored, literal, rest)


def _literal(body: str) -> tuple[str, str]:
    """The literal text at the beginning of a piece of a pattern, and what follows it."""
    literal: list[str] = []
    at = 0
    while at < len(body):
        char, width = body[at], 1
        if char == "\\" and body[at + 1 : at + 2] in _PUNCTUATION:
            char, width = body[at + 1], 2
        elif char in _OPERATORS:
            break
        after = body[at + width :]
        if after[:1] in _QUANTIFIERS or after.startswith(_TRANSPARENT):
            break
        literal.append(char)
        at += width
    return "".join(literal), body[at:]


def path_test(pattern: str, whole: bool) -> BytesTest | None:
    """A test of normal paths (printable ASCII): anchored at the start, or `whole` (S16).

    None means: every path passes.
    """
    regex = _compile(pattern, "pathRegex")
    shape = shape_of(pattern)
    literal = shape.literal.encode()
    if shape.rest in (".*", ".*$") or (shape.rest == "" and not whole):
        return methodcaller("startswith", literal) if literal else None
    if shape.rest in ("", "$"):
        return literal.__eq__
    words, rest = _words(pattern)
    if words and (rest in (".*", ".*$") or (rest == "" and not whole)):
        return methodcaller("startswith", tuple(words))
    if words and rest in ("", "$"):
        return frozenset(words).__contains__
    run = _runner(regex, Anchor.BOTH if whole else Anchor.START)
    return partial(_after_prefix, literal, run) if literal else run


def value_test(pattern: str) -> BytesTest | None:
    """A test of header values: the pattern is searched (S16). None means: every value passes."""
    regex = _compile(pattern, "header filter")
    shape = shape_of(pattern)
    if not shape.anchored and not shape.literal and shape.rest.startswith(".*"):
        # A leading `.*` adds nothing to a search, unless a quantifier or `$` depends on it.
        inner = shape_of(shape.rest[2:])
        if not inner.anchored and not shape.rest[2:].startswith(tuple(_QUANTIFIERS)):
            shape = inner
    literal = shape.literal.encode()
    if shape.rest in ("", ".*"):
        if not literal:
            return None
        return methodcaller("startswith" if shape.anchored else "__contains__", literal)
    if shape.rest == "$":
        return literal.__eq__ if shape.anchored else methodcaller("endswith", literal)
    return _runner(regex, Anchor.NONE)


def _words(pattern: str) -> tuple[list[bytes], str]:
    """All texts that the beginning of a pattern stands for, and the rest of the pattern.

    Beginnings are made of literals and of groups that offer literals: `/(api|bytes)/.*` stands for
    `/api/` and `/bytes/`, with `.*` as its rest. No words: it is not made so, or there are too many.
    """
    shape = shape_of(pattern)
    words, rest = [shape.literal], shape.rest
    while (group := _OFFERS.match(rest)) is not None:
        offers = [_ESCAPE.sub(r"\1", offer) for offer in group[1].split("|")]
        rest = rest[group.end() :]
        if (
            rest[:1] in _QUANTIFIERS
            or rest.startswith(_TRANSPARENT)
            or len(words) * len(offers) > _MOST_WORDS
        ):
            return [], pattern
        literal, rest = _literal(rest)
        words = [word + offer + literal for word in words for offer in offers]
    return [word.encode() for word in words], rest


def _after_prefix(prefix: bytes, run: BytesTest, value: bytes) -> bool:
    return value.startswith(prefix) and run(value)


def _runner(regex: re2._Regexp, anchor: Anchor) -> BytesTest:
    # The wrapper's own match() builds a generator and a match object per call: 1.4 µs against
    # 0.5 µs for the bound method beneath it, which tells all we need (no match: span -1).
    import re2

    run, engine_anchor = regex._regexp.Match, re2._Anchor.__members__[anchor.value]

    def test(value: bytes) -> bool:
        return bool(run(engine_anchor, value, 0, len(value))[0][0] >= 0)

    return test


def _compile(text: str, where: str) -> re2._Regexp:
    if len(text) > MAX_PATTERN_LENGTH:
        raise PatternError(
            f"{where}: the pattern has {len(text)} characters, at most {MAX_PATTERN_LENGTH} are allowed"
        )
    import re2  # not before there is a pattern: the engine and C++'s library take 2.5 MB of a sidecar

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MAX_PROGRAM_BYTES
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise PatternError(f"{where}: {text!r} is not a valid RE2 pattern: {_explain(error)}") from None
    except UnicodeEncodeError:
        raise PatternError(f"{where}: the pattern is not valid Unicode text") from None


def _explain(error: Exception) -> str:
    detail = error.args[0] if error.args else ""
    return detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)


def _has_top_level_alternation(pattern: str) -> bool:
    r"""Whether a `|` stands outside of every group and class; `\Q` counts as one, to be safe."""
    depth = at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            if pattern[at + 1 : at + 2] == "Q":
                return True
            at += 1
        elif char == "[":
            at = _class_end(pattern, at)
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "|" and depth == 0:
            return True
        at += 1
    return False


def _class_end(pattern: str, start: int) -> int:
    """Index of the `]` that closes the class opened at `start`."""
    at = start + 1
    if pattern.startswith("^", at):
        at += 1
    if pattern.startswith("]", at):
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        if pattern[at] == "\\":
            at += 2
        elif pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
            at = end + 2
        else:
            at += 1
    return at
