"""JSON values as Python data: the few operations everything here needs.

Stored objects are shared between readers and never mutated; whoever wants to change one clones it first.
"""

from __future__ import annotations

import json
from typing import Any, cast

JsonObject = dict[str, Any]


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON, the byte format clients compare (no spaces, no trailing newline)."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def loads(text: bytes | str) -> Any:
    return json.loads(text)


def clone(value: Any) -> Any:
    """Deep copy of a JSON value (several times faster than copy.deepcopy, which guards against cycles)."""
    if type(value) is dict:
        return {key: clone(item) for key, item in value.items()}
    if type(value) is list:
        return [clone(item) for item in value]
    return value


def clone_object(value: JsonObject) -> JsonObject:
    return cast("JsonObject", clone(value))


def child(value: JsonObject, *path: str) -> JsonObject:
    """The object at `path`, or an empty one that is not attached when a step is absent or not an object."""
    current: Any = value
    for step in path:
        current = current.get(step) if isinstance(current, dict) else None
    return current if isinstance(current, dict) else {}


def lookup(value: Any, *path: str) -> Any:
    """The value at `path`, None when a step is absent."""
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def drop_nulls(value: Any) -> Any:
    """A copy without null members, as Go's decoding into structs forgets them."""
    if isinstance(value, dict):
        return {key: drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [drop_nulls(item) for item in value]
    return value
