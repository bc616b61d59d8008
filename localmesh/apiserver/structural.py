"""Structural schemas of custom resources: prune what they do not name, fill in defaults, validate the rest.

Pure functions over JSON. Messages and reasons follow upstream's (recorded cases: kubernetes-api.md,
Appendix E). CEL rules (x-kubernetes-validations) are `rules`' business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from localmesh.apiserver import rules
from localmesh.apiserver.errors import Cause, not_supported, required
from localmesh.apiserver.jsonvalue import JsonObject, clone, dumps

Unknown = Callable[[str], None]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_ENVELOPE = ("apiVersion", "kind", "metadata")
MAX_CAUSES = 100
"""Causes reported for one object; more would not help anybody."""


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a custom resource keeps what the scale subresource shows."""

    spec_replicas: tuple[str, ...]
    status_replicas: tuple[str, ...]
    label_selector: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CustomVersion:
    """One version of a custom resource."""

    name: str
    schema: JsonObject
    status: bool
    scale: ScalePaths | None
    columns: tuple[JsonObject, ...]
    selectable: frozenset[str]
    warning: str = ""
    """Shown to every client of a deprecated version."""
    rules: rules.Node | None = None
    """The schema's CEL rules, None without any."""


# --- pruning -------------------------------------------------------------------------------------


def prune(value: JsonObject, schema: JsonObject, unknown: Unknown) -> JsonObject:
    """A copy without fields the schema does not specify, each reported by its path.
    The envelope always stays.
    """
    return _prune_object(value, schema, "", unknown, envelope=True)


def _prune(value: Any, schema: JsonObject, path: str, unknown: Unknown) -> Any:
    if isinstance(value, dict):
        return _prune_object(value, schema, path, unknown, envelope=bool(schema.get(_EMBEDDED)))
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, dict):
            return clone(value)
        return [_prune(item, items, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    return value


def _prune_object(
    value: JsonObject, schema: JsonObject, path: str, unknown: Unknown, *, envelope: bool
) -> JsonObject:
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    keep = schema.get(_PRESERVE) or additional is True or (schema.get(_INT_OR_STRING) is True)
    result = {}
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if envelope and key in _ENVELOPE:
            result[key] = clone(item)
        elif key in properties:
            result[key] = _prune(item, properties[key], where, unknown)
        elif isinstance(additional, dict):
            result[key] = _prune(item, additional, where, unknown)
        elif keep:
            result[key] = clone(item)
        else:
            unknown(where)
    return result


# --- defaulting ----------------------------------------------------------------------------------


def fill_defaults(value: Any, schema: JsonObject) -> None:
    """Set what is absent and has a default, and drop nulls that may not be null, in place."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        for key, inner in properties.items():
            if key in value and value[key] is None and not inner.get("nullable"):
                del value[key]
            if key not in value and "default" in inner:
                value[key] = clone(inner["default"])
            if key in value:
                fill_defaults(value[key], inner)
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            for key, item in value.items():
                if key not in properties:
                    fill_defaults(item, additional)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            fill_defaults(item, schema["items"])


# --- validation ----------------------------------------------------------------------------------


def validate(value: JsonObject, schema: JsonObject) -> list[Cause]:
    """Everything wrong with an object, up to MAX_CAUSES. metadata is validated elsewhere."""
    checked = {key: item for key, item in value.items() if key != "metadata"}
    causes = list(_check(checked, _without_metadata(schema), ""))
    return causes[:MAX_CAUSES]


def _without_metadata(schema: JsonObject) -> JsonObject:
    if "metadata" not in (schema.get("properties") or {}) and "metadata" not in (
        schema.get("required") or ()
    ):
        return schema
    properties = {key: inner for key, inner in schema["properties"].items() if key != "metadata"}
    needed = [name for name in schema.get("required") or () if name != "metadata"]
    return {**schema, "properties": properties, "required": needed}


def _check(value: Any, schema: JsonObject, path: str) -> Iterator[Cause]:
    if value is None and schema.get("nullable"):
        return
    problem = _type_problem(value, schema, path)
    if problem is not None:
        yield problem
        return
    yield from _check_enum(value, schema, path)
    match value:
        case bool() | None:
            pass
        case str():
            yield from _check_string(value, schema, path)
        case int() | float():
            yield from _check_number(value, schema, path)
        case list():
            yield from _check_list(value, schema, path)
        case dict():
            yield from _check_object(value, schema, path)
    yield from _check_combinations(value, schema, path)


def type_name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _type_problem(value: Any, schema: JsonObject, path: str) -> Cause | None:
    given = type_name(value)
    if schema.get(_INT_OR_STRING):
        if given in ("integer", "string"):
            return None
        return _mistyped(path, "integer,string", given)
    wanted = schema.get("type")
    if not wanted or wanted == given or (wanted == "number" and given == "integer"):
        return None
    return _mistyped(path, wanted, given)


def _mistyped(path: str, wanted: str, given: str) -> Cause:
    message = f'Invalid value: "{given}": {_in_body(path)} must be of type {wanted}: "{given}"'
    return Cause("FieldValueTypeInvalid", path or "<nil>", message)


def _in_body(path: str) -> str:
    return f"{path} in body" if path else "in body"


def _bad(path: str, value: Any, message: str) -> Cause:
    return Cause(
        "FieldValueInvalid", path or "<nil>", f"Invalid value: {_shown(value)}: {_in_body(path)} {message}"
    )


def _shown(value: Any) -> str:
    return dumps(value).decode()


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _check_enum(value: Any, schema: JsonObject, path: str) -> Iterator[Cause]:
    allowed = schema.get("enum")
    if allowed is not None and not any(_same(value, choice) for choice in allowed):
        choices = [choice if isinstance(choice, str) else _shown(choice) for choice in allowed]
        yield not_supported(path, _shown(value), choices)


@lru_cache(maxsize=512)
def pattern(text: str) -> re.Pattern[str] | None:
    """A compiled pattern, None when it is beyond Python's dialect (then it is not enforced)."""
    try:
        return re.compile(re.sub(r"\\z", r"\\Z", text))
    except re.error:
        return None


def _check_string(value: str, schema: JsonObject, path: str) -> Iterator[Cause]:
    most, least = schema.get("maxLength"), schema.get("minLength")
    if most is not None and len(value) > most:
        message = f"Too long: may not be more than {most} bytes"
        yield Cause("FieldValueTooLong", path, message)
    if least is not None and len(value) < least:
        yield _bad(path, value, f"should be at least {least} chars long")
    if schema.get("pattern"):
        compiled = pattern(schema["pattern"])
        if compiled is not None and not compiled.search(value):
            yield _bad(path, value, f"should match '{schema['pattern']}'")
    form = schema.get("format")
    if form in _FORMATS and not _FORMATS[form](value):
        message = f"Invalid value: {_shown(value)}: {_in_body(path)} must be of type {form}: {_shown(value)}"
        yield Cause("FieldValueInvalid", path, message)


def _is_date_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return "T" in text.upper()


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - only the form matters
    except ValueError:
        return False
    return True


_UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "date": _is_date,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
}

_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def _check_number(value: float, schema: JsonObject, path: str) -> Iterator[Cause]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None:
        if schema.get("exclusiveMinimum") and value <= least:
            yield _bad(path, value, f"should be greater than {least}")
        elif value < least:
            yield _bad(path, value, f"should be greater than or equal to {least}")
    if most is not None:
        if schema.get("exclusiveMaximum") and value >= most:
            yield _bad(path, value, f"should be less than {most}")
        elif value > most:
            yield _bad(path, value, f"should be less than or equal to {most}")
    step = schema.get("multipleOf")
    if step and value % step:
        yield _bad(path, value, f"should be a multiple of {step}")
    span = _RANGES.get(schema.get("format", ""))
    if span and not span[0] <= value <= span[1]:
        message = f"Checked value must be of type integer with format {schema['format']}"
        yield _bad(path, value, message)


def _check_list(value: list[Any], schema: JsonObject, path: str) -> Iterator[Cause]:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        message = f"Too many: {len(value)}: must have at most {most} items"
        yield Cause("FieldValueTooMany", path, message)
    if least is not None and len(value) < least:
        yield _bad(path, len(value), f"should have at least {least} items")
    items = schema.get("items")
    if isinstance(items, dict):
        for index, item in enumerate(value):
            yield from _check(item, items, f"{path}[{index}]")
    yield from _check_duplicates(value, schema, path)


def _check_duplicates(value: list[Any], schema: JsonObject, path: str) -> Iterator[Cause]:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        keys = schema.get("x-kubernetes-list-map-keys") or ()
        identities = [
            {key: item[key] for key in keys if key in item} if isinstance(item, dict) else item
            for item in value
        ]
    elif kind == "set" or schema.get("uniqueItems"):
        identities = value
    else:
        return
    seen = set()
    for index, identity in enumerate(identities):
        text = _shown(identity)
        if text in seen:
            yield Cause("FieldValueDuplicate", f"{path}[{index}]", f"Duplicate value: {text}")
        seen.add(text)


def _check_object(value: JsonObject, schema: JsonObject, path: str) -> Iterator[Cause]:
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key in properties:
            yield from _check(item, properties[key], where)
        elif isinstance(additional, dict):
            yield from _check(item, additional, where)
    for key in schema.get("required") or ():
        if key not in value:
            yield required(f"{path}.{key}" if path else key)
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and len(value) > most:
        yield Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
    if least is not None and len(value) < least:
        yield _bad(path, len(value), f"should have at least {least} properties")


def _check_combinations(value: Any, schema: JsonObject, path: str) -> Iterator[Cause]:
    for inner in schema.get("allOf") or ():
        yield from _check(value, inner, path)
    choices = schema.get("anyOf")
    if choices and not any(_fits(value, inner) for inner in choices):
        yield _bad(path, _brief(value), "must validate at least one schema (anyOf)")
    choices = schema.get("oneOf")
    if choices:
        fitting = sum(1 for inner in choices if _fits(value, inner))
        if fitting != 1:
            found = "Found none valid" if fitting == 0 else f"Found {fitting} valid alternatives"
            yield _bad(path, _brief(value), f"must validate one and only one schema (oneOf). {found}")
    inner = schema.get("not")
    if isinstance(inner, dict) and inner and _fits(value, inner):
        yield _bad(path, _brief(value), "must not validate the schema (not)")


def _brief(value: Any) -> Any:
    return "" if isinstance(value, dict | list) else value


def _fits(value: Any, schema: JsonObject) -> bool:
    return next(_check(value, schema, ""), None) is None
