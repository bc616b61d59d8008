"""The part of Kubernetes' JSONPath that printer columns, selectable fields and scale paths use.

Supported: `.a.b`, `['a.b']`, `[0]`, `[-1]`, `[*]`, `.*`, and filters `[?(@.type=="Ready")]` with == and !=.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from localmesh.apiserver.jsonvalue import dumps

Step = Callable[[Any], Iterable[Any]]

_TOKEN = re.compile(
    r"""
    \.(?P<name>[A-Za-z0-9_$/-]+(?:\\\.[A-Za-z0-9_$/-]+)*)
    | \[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]
    | \[(?P<index>-?\d+)\]
    | (?P<every>\[\*\]|\.\*)
    | \[\?\(\s*@(?P<path>(?:\.[A-Za-z0-9_-]+)+)\s*(?P<sign>==|!=)\s*(?P<value>'[^']*'|"[^"]*"|[^)\s]+)\s*\)\]
    """,
    re.VERBOSE,
)


class JsonPathError(ValueError):
    """The expression is outside the supported grammar."""


class JsonPath:
    """A compiled path; `find` never raises."""

    def __init__(self, text: str) -> None:
        self.source = text
        stripped = text.strip().removeprefix("{").removesuffix("}").removeprefix("$")
        if stripped and stripped[0] not in ".[":
            stripped = "." + stripped
        self._steps = tuple(_compile(stripped, text))

    def find(self, value: Any) -> list[Any]:
        found = [value]
        for step in self._steps:
            found = [item for current in found for item in step(current)]
        return found

    def text(self, value: Any) -> str:
        """All matches joined as kubectl prints them."""
        return ",".join(_show(item) for item in self.find(value) if item is not None)


def _compile(rest: str, source: str) -> Iterable[Step]:
    position = 0
    while position < len(rest):
        match = _TOKEN.match(rest, position)
        if match is None:
            raise JsonPathError(f"{source!r}: cannot read {rest[position:]!r}")
        position = match.end()
        if match["name"] is not None:
            yield _member(match["name"].replace("\\.", "."))
        elif match["quoted"] is not None:
            yield _member(match["quoted"])
        elif match["index"] is not None:
            yield _element(int(match["index"]))
        elif match["every"]:
            yield _every
        else:
            yield _filter(match["path"][1:].split("."), match["sign"] == "==", match["value"])


def _member(name: str) -> Step:
    return lambda value: (value[name],) if isinstance(value, dict) and name in value else ()


def _element(index: int) -> Step:
    def step(value: Any) -> Iterable[Any]:
        return (value[index],) if isinstance(value, list) and -len(value) <= index < len(value) else ()

    return step


def _every(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return value
    return value.values() if isinstance(value, dict) else ()


def _filter(path: list[str], equal: bool, literal: str) -> Step:
    wanted = literal[1:-1] if literal[0] in "'\"" else literal

    def holds(item: Any) -> bool:
        for name in path:
            item = item.get(name) if isinstance(item, dict) else None
        return item is not None and (_show(item) == wanted) == equal

    return lambda value: [item for item in value if holds(item)] if isinstance(value, list) else ()


def _show(value: Any) -> str:
    if isinstance(value, str):
        return value
    return dumps(value).decode()
