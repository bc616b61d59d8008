"""The shape of built-in kinds: which fields a type has and of what type each is.

Loaded from a generated table (see generate_types). Used to refuse or prune unknown fields, to check types
as Go's decoder would, to drive strategic merge patches, and to describe kinds in OpenAPI.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from localmesh.apiserver.errors import bad_request
from localmesh.apiserver.jsonvalue import JsonObject, dumps, loads

PATH = Path(__file__).with_name("data") / "types.json.gz"

_GO = {
    "str": "string",
    "int": "int64",
    "bool": "bool",
    "float": "float64",
    "bytes": "[]uint8",
    "datetime": "Time",
}
_QUANTITIES = frozenset(
    {"limits", "requests", "capacity", "hard", "used", "default", "defaultRequest", "max", "min",
     "allocatable", "overhead", "maxLimitRequestRatio", "allocatedResources"}
)  # fmt: skip
"""Maps of quantities: numbers are accepted and become text."""
_QUANTITY_FIELDS = frozenset({"sizeLimit", "divisor", "averageValue"})


@dataclass(frozen=True, slots=True)
class Field:
    type: str  # a scalar, `any`, `[]T`, `{}T`, or the name of another type
    required: bool


@dataclass(frozen=True, slots=True)
class TypeTable:
    kinds: Mapping[str, str]
    """`apiVersion/Kind` → type name."""
    types: Mapping[str, Mapping[str, Field]]

    def of_kind(self, api_version: str, kind: str) -> str | None:
        return self.kinds.get(f"{api_version}/{kind}")


@cache
def table() -> TypeTable:
    """The table, read once."""
    raw = loads(gzip.decompress(PATH.read_bytes()))
    types = {
        name: {key: Field(text.rstrip("!"), text.endswith("!")) for key, text in fields.items()}
        for name, fields in raw["types"].items()
    }
    return TypeTable(raw["kinds"], types)


Unknown = Callable[[str], None]


def conform(obj: JsonObject, type_name: str, unknown: Unknown) -> JsonObject:
    """A copy without nulls and without unknown fields, each reported to `unknown` by its path.

    Raises ApiError 400 for a value of the wrong JSON type, as upstream's decoder does.
    """
    result = _conform(obj, type_name, "", obj.get("kind", type_name), obj.get("apiVersion", ""), unknown)
    assert isinstance(result, dict)
    return result


def _conform(value: Any, type_name: str, path: str, kind: str, api_version: str, unknown: Unknown) -> Any:
    if type_name.startswith("[]"):
        if not isinstance(value, list):
            raise _mismatch(value, type_name, path, kind, api_version)
        inner = type_name[2:]
        return [
            _conform(item, inner, f"{path}[{position}]", kind, api_version, unknown)
            for position, item in enumerate(value)
        ]
    if type_name.startswith("{}"):
        if not isinstance(value, dict):
            raise _mismatch(value, type_name, path, kind, api_version)
        inner = type_name[2:]
        quantities = path.rpartition(".")[2] in _QUANTITIES
        return {
            key: _scalar_text(item)
            if quantities
            else _conform(item, inner, f"{path}.{key}", kind, api_version, unknown)
            for key, item in value.items()
            if item is not None
        }
    fields = table().types.get(type_name)
    if fields is None:
        return _scalar(value, type_name, path, kind, api_version)
    if not fields and type_name != "any":
        return value
    if not isinstance(value, dict):
        raise _mismatch(value, type_name, path, kind, api_version)
    result = {}
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        field = fields.get(key)
        if field is None:
            unknown(where)
        elif item is not None:
            result[key] = _conform(item, field.type, where, kind, api_version, unknown)
    return result


def _scalar_text(value: Any) -> Any:
    return dumps(value).decode() if isinstance(value, int | float) and not isinstance(value, bool) else value


def _scalar(value: Any, type_name: str, path: str, kind: str, api_version: str) -> Any:
    match type_name:
        case "str" | "bytes" | "datetime":
            if path.rpartition(".")[2] in _QUANTITY_FIELDS:
                return _scalar_text(value)
            good = isinstance(value, str)
        case "int":
            if isinstance(value, float) and value.is_integer():
                return int(value)
            good = isinstance(value, int) and not isinstance(value, bool)
        case "bool":
            good = isinstance(value, bool)
        case "float":
            good = isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            good = True
    if not good:
        raise _mismatch(value, type_name, path, kind, api_version)
    return value


def _mismatch(value: Any, type_name: str, path: str, kind: str, api_version: str) -> Exception:
    if isinstance(value, bool):
        given = "bool"
    elif isinstance(value, str):
        given = "string"
    elif isinstance(value, int | float):
        given = "number"
    else:
        given = "array" if isinstance(value, list) else "object"
    wanted = _GO.get(type_name.removeprefix("[]").removeprefix("{}"), type_name)
    version = api_version.rpartition("/")[2]
    return bad_request(
        f'{kind} in version "{version}" cannot be handled as a {kind}: json: cannot unmarshal {given} into '
        f"Go struct field {kind}.{path} of type {wanted}"
    )
