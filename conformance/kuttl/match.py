"""Whether an object is what an assertion asks for, and how to tell the difference. Pure.

KUTTL's rule: an object matches when everything the assertion names is there with the same value. Fields that
the assertion does not name are ignored; lists must have the same length and match element by element.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

MAX_DIFF_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first thing that differs."""

    path: tuple[str | int, ...]
    reason: str

    def __str__(self) -> str:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return f"{place or 'the object'}: {self.reason}"


def mismatch(expected: Any, actual: Any, path: tuple[str | int, ...] = ()) -> Mismatch | None:
    """Why `actual` does not hold everything of `expected`, or None when it does."""
    if kind(expected) != kind(actual):
        return Mismatch(path, f"expected {kind(expected)} {_short(expected)}, found {_found(actual)}")
    if isinstance(expected, Mapping):
        for key, value in expected.items():
            if key not in actual:
                return Mismatch((*path, key), f"expected {_short(value)}, it is not there")
            found = mismatch(value, actual[key], (*path, key))
            if found is not None:
                return found
        return None
    if isinstance(expected, list):
        if len(expected) != len(actual):
            return Mismatch(path, f"expected {len(expected)} elements, found {len(actual)}")
        pairs = enumerate(zip(expected, actual, strict=True))
        found_in = (mismatch(one, other, (*path, index)) for index, (one, other) in pairs)
        return next((found for found in found_in if found is not None), None)
    if expected != actual:
        return Mismatch(path, f"expected {_short(expected)}, found {_short(actual)}")
    return None


def kind(value: Any) -> str:
    """The JSON type: a boolean is no number, 1 and 1.0 are the same number."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "list"


def _short(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    return text if len(text) <= 80 else text[:77] + "…"


def _found(value: Any) -> str:
    return "null" if value is None else f"{kind(value)} {_short(value)}"


def project(expected: Any, actual: Any) -> Any:
    """`actual` without what `expected` does not name: equal to `expected` exactly when it matches."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return {key: project(value, actual[key]) for key, value in expected.items() if key in actual}
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [project(one, other) for one, other in zip(expected, actual, strict=True)]
    return actual


def difference(expected: Any, actual: Any, name: str) -> str:
    """A unified diff of what is expected and what there is, only in what the assertion names."""
    lines = list(
        difflib.unified_diff(
            _lines(expected), _lines(project(expected, actual)), f"{name} (expected)", f"{name} (found)",
            lineterm="", n=2,
        )
    )  # fmt: skip
    if len(lines) > MAX_DIFF_LINES:
        lines = [*lines[:MAX_DIFF_LINES], f"… {len(lines) - MAX_DIFF_LINES} more lines"]
    return "\n".join(lines)


def _lines(value: Any) -> list[str]:
    return str(yaml.safe_dump(value, sort_keys=True, allow_unicode=True)).splitlines()


def matching(expected: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The candidates that match."""
    return [candidate for candidate in candidates if mismatch(expected, candidate) is None]


def identity(obj: Mapping[str, Any]) -> str:
    """`Kind namespace/name`, or what there is of it; for messages."""
    metadata = obj.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName") or "(any)"
    space = metadata.get("namespace")
    return f"{obj.get('kind', '?')} {space}/{name}" if space else f"{obj.get('kind', '?')} {name}"
