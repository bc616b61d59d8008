"""What a pattern's text says about how it can be read: ends, branches, and paths that cannot be.

Pure and syntactic: it never claims a difference that is not there for a pattern without nested
groups at its ends, and of others it may. Patterns are RE2's; whether they compile is not asked here.
"""

from __future__ import annotations

from typing import Final

from smi.policy.regex import shape_of

_OPEN_ENDS: Final = ("$", ".*", r"\z")
_OPEN_STARTS: Final = ("^", ".*", r"\A")


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


def impossible_path(pattern: str) -> str:
    """Why no normal path can match (S19), empty if one may."""
    reasons = [_impossible(branch) for branch in branches(pattern)]
    return reasons[0] if all(reasons) else ""


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
