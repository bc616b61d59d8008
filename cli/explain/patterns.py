"""What can be said of a pattern: how meshes differ over it, what it covers, and whether anything meets it.

Pure. Answered by what patterns mean (`regular`), where that is looked into; for the rest by their text, which
may claim a difference that is not there. Patterns are RE2's; whether they compile is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cli.explain.regular import Machine, Reading, UnknownError, find, header_values, machine, normal_paths
from smi.policy.regex import shape_of
from smi.policy.snapshot import Regex, RouteMatch

_OPEN_ENDS: Final = ("$", ".*", r"\z")
_OPEN_STARTS: Final = ("^", ".*", r"\A")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two ways to hold a pattern against a text come to two answers, so for `example`.

    An empty example: that could not be looked into, and the pattern's text suggests that they do.
    """

    example: str


def path_difference(pattern: str) -> Difference | None:
    """Held against the beginning of a path, or against the whole of it."""
    return _difference(normal_paths(), pattern, Reading.BEGINNING, safe=has_end(pattern))


def value_difference(pattern: str) -> Difference | None:
    """Searched for in a header's value, or held against the whole of it."""
    return _difference(
        header_values(), pattern, Reading.ANYWHERE, safe=has_start(pattern) and has_end(pattern)
    )


def _difference(among: Machine, pattern: str, here: Reading, *, safe: bool) -> Difference | None:
    try:
        both = machine(pattern, here), machine(pattern, Reading.WHOLE)
        found = find((among, *both), lambda said: said[1] is not said[2])
    except UnknownError:
        return None if safe else Difference("")
    return None if found is None else Difference(found.decode("ascii"))


def no_value_meets(patterns: Sequence[str]) -> bool:
    """Whether no value of one header meets all these filters; False where that is not known."""
    try:
        all_of_them = [machine(pattern, Reading.ANYWHERE) for pattern in patterns]
        return find((header_values(), *all_of_them), all) is None
    except UnknownError:
        return False


def covered(match: RouteMatch, others: Sequence[RouteMatch]) -> bool:
    """Whether every request that meets `match` meets one of the others; False where that is not known."""
    implied = [other for other in others if _headers_imply(match, other)]
    for method in match.methods or {""}:  # "": one that nobody names
        able = [other for other in implied if not other.methods or method in other.methods]
        if not able or not _paths_covered(match, able):
            return False
    return True


def _headers_imply(match: RouteMatch, other: RouteMatch) -> bool:
    """Whether the filters of `match` leave nothing that those of `other` refuse."""
    return all(
        any(known == name and _stricter(own, pattern) for known, own in match.headers)
        for name, pattern in other.headers
    )


def _stricter(pattern: str, than: str) -> bool:
    if pattern == than:
        return True
    try:
        both = machine(pattern, Reading.ANYWHERE), machine(than, Reading.ANYWHERE)
        return find((header_values(), *both), lambda said: said[1] and not said[2]) is None
    except UnknownError:
        return False


def _paths_covered(match: RouteMatch, others: Iterable[RouteMatch]) -> bool:
    same = [other for other in others if other.path is None or (other.path, other.regex) == _path_of(match)]
    if same:
        return True
    try:
        one, *rest = (_machine_of(known) for known in (match, *others))
        return find((normal_paths(), one, *rest), lambda said: said[1] and not any(said[2:])) is None
    except UnknownError:
        return False


def _path_of(match: RouteMatch) -> tuple[str | None, Regex]:
    return match.path, match.regex


def _machine_of(match: RouteMatch) -> Machine:
    reading = Reading.WHOLE if match.regex is Regex.FULL else Reading.BEGINNING
    return machine(match.path, reading) if match.path is not None else machine("", Reading.BEGINNING)


def branches(pattern: str) -> tuple[str, ...]:
    r"""The alternatives at top level (`a|b` → `a`, `b`); groups around all of it are taken off.

    A quoted part (`\Q…\E`) makes the pattern one branch.
    """
    if r"\Q" in pattern:
        return (pattern,)
    found, depth, begin, at = list[str](), 0, 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif char == "[":
            at = _class_end(pattern, at)
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "|" and depth == 0:
            found.append(pattern[begin:at])
            begin = at + 1
        at += 1
    found.append(pattern[begin:])
    if len(found) == 1:
        inner = _without_group(pattern)
        return (pattern,) if inner is None else branches(inner)
    return tuple(branch for one in found for branch in branches(one))


def _without_group(pattern: str) -> str | None:
    """What one group around the whole pattern holds; None if there is no such group."""
    if (
        not pattern.startswith("(")
        or not pattern.endswith(")")
        or pattern.startswith("(?") != (pattern.startswith("(?:"))
    ):
        return None
    depth = at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif char == "[":
            at = _class_end(pattern, at)
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0 and at < len(pattern) - 1:
                return None
        at += 1
    if depth or _escaped(pattern, len(pattern) - 1):
        return None
    return pattern[3:-1] if pattern.startswith("(?:") else pattern[1:-1]


def _class_end(pattern: str, start: int) -> int:
    """Index of the `]` that closes the class opened at `start`, or of the last character."""
    at = start + 1
    if pattern.startswith("^", at):
        at += 1
    if pattern.startswith("]", at):
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return min(at, len(pattern) - 1)


def _escaped(pattern: str, at: int) -> bool:
    """Whether the character at `at` has a backslash that is not itself escaped before it."""
    before = pattern[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def has_end(pattern: str) -> bool:
    """Every branch ends in `$` or `.*`: matching a beginning and matching the whole come to the same."""
    return all(
        any(branch.endswith(end) and not _escaped(branch, len(branch) - len(end)) for end in _OPEN_ENDS)
        for branch in branches(pattern)
    )


def has_start(pattern: str) -> bool:
    """Every branch begins with `^` or `.*`: searching and matching from the start come to the same."""
    return all(branch.startswith(_OPEN_STARTS) for branch in branches(pattern))


def impossible_path(pattern: str, reading: Reading = Reading.BEGINNING) -> str:
    """Why no normal path can match (S19), empty if one may."""
    reasons = [_impossible(branch) for branch in branches(pattern)]
    said = next((reason for reason in reasons if reason), "")
    try:
        found = find((normal_paths(), machine(pattern, reading)), all)
    except UnknownError:
        return said if all(reasons) else ""
    return "" if found is not None else said or "no path has this form"


def _impossible(branch: str) -> str:
    literal = shape_of(branch).literal
    if literal and not literal.startswith(("/", "*")):
        return "it begins with " + repr(literal[0]) + ", and every path begins with '/'"
    if "?" in literal:
        return "it asks for '?', and the query is not part of the path"
    if "//" in literal:
        return "it asks for '//', and repeated slashes are merged before matching"
    if "/./" in literal or "/../" in literal:
        return "it asks for a dot segment, and those are removed before matching"
    return ""
