"""The CEL rules of custom resources (x-kubernetes-validations): read once, judged at every write.

Expressions are evaluated by the package `common-expression-language` (ADR 0020); what Kubernetes adds to the
language and the package lacks is here, as far as it is supported: `unsupported` names the rest, so that a
definition that needs it is answered with a warning. Such a rule is not checked.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import re2

from localmesh.apiserver.errors import Cause
from localmesh.apiserver.jsonvalue import JsonObject, dumps

KEYWORD = "x-kubernetes-validations"
MAX_RULE = 10_000
"""Characters of one expression; nesting is bounded by it too."""
_REASONS = frozenset(
    {"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"}
)


class Program(Protocol):
    """A compiled expression of the package, which is imported only where a definition has rules."""

    def execute(self, context: Any) -> Any: ...

    def variables(self) -> list[str]: ...

    def functions(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of x-kubernetes-validations."""

    expression: str
    message: str
    message_expression: str
    reason: str
    field_path: str
    optional_old: bool


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """The rules of a schema and of what it contains; parts without rules are left out."""

    schema: JsonObject
    rules: tuple[Rule, ...] = ()
    properties: Mapping[str, Node] = field(default_factory=dict)
    additional: Node | None = None
    items: Node | None = None


class ExpressionError(ValueError):
    """The expression is no CEL."""


# --- reading definitions ---------------------------------------------------------------------------


def read(schema: Any) -> Node | None:
    """The rules anywhere in a schema, None without any."""
    if not isinstance(schema, dict):
        return None
    own = tuple(_rule(row) for row in schema.get(KEYWORD) or () if isinstance(row, dict))
    inner = {name: read(part) for name, part in (schema.get("properties") or {}).items()}
    properties = {name: node for name, node in inner.items() if node is not None}
    additional, items = read(schema.get("additionalProperties")), read(schema.get("items"))
    if not (own or properties or additional or items):
        return None
    return Node(schema, own, properties, additional, items)


def _rule(row: JsonObject) -> Rule:
    reason = row.get("reason") or "FieldValueInvalid"
    return Rule(
        expression=str(row.get("rule") or ""),
        message=str(row.get("message") or ""),
        message_expression=str(row.get("messageExpression") or ""),
        reason=reason if reason in _REASONS else "FieldValueInvalid",
        field_path=str(row.get("fieldPath") or ""),
        optional_old=bool(row.get("optionalOldSelf")),
    )


def each(schema: Any, path: str) -> Iterator[tuple[str, JsonObject]]:
    """Every rule of a schema as it is written, with its place in the definition."""
    if not isinstance(schema, dict):
        return
    for position, row in enumerate(schema.get(KEYWORD) or ()):
        if isinstance(row, dict):
            yield f"{path}.{KEYWORD}[{position}]", row
    for name, part in (schema.get("properties") or {}).items():
        yield from each(part, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        yield from each(schema.get(name), f"{path}.{name}")


def compiled(expression: str) -> Program:
    """The program of an expression; ExpressionError when it is none."""
    program = _compiled(expression)
    if isinstance(program, str):
        raise ExpressionError(program)
    return program


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> Program | str:
    """The program, or what is wrong with the expression."""
    if not expression.strip():
        return "rule is not specified"
    if len(expression) > MAX_RULE:
        return f"an expression may have at most {MAX_RULE} characters"
    try:
        return cast("Program", _cel().compile(expression))
    except ValueError as error:
        return str(error).partition("\n")[0]


def unsupported(expression: str) -> str:
    """What an expression needs that is not supported here, "" for nothing. The expression may be none."""
    if re.search(r"\.\?|\[\?", expression):
        return "optional field selection"
    try:
        needed = compiled(expression).functions()
    except ExpressionError:
        return ""
    unknown = sorted(name for name in needed if name[0].isalpha() and name not in _KNOWN)
    return f"the function {', '.join(unknown)}" if unknown else ""


# --- judging objects -------------------------------------------------------------------------------


def broken(value: Any, node: Node, old: Any, path: str = "", *, unchanged: bool = False) -> Iterator[Cause]:
    """What the rules find wrong. `old` is the value before an update, None at creation and where the value
    before cannot be told. A rule about oldSelf is only asked when there is one, any other only about what
    changed: `unchanged` says that it lies in something that did not.
    """
    if value is None:
        return
    unchanged = unchanged or (old is not None and bool(value == old))
    for rule in node.rules:
        if unchanged and not _is_about_change(rule):
            continue
        cause = _judge(rule, value, node.schema, old, path)
        if cause is not None:
            yield cause
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, item in value.items():
            inner = node.properties.get(name) or node.additional
            if inner is not None:
                where = f"{path}.{name}" if path else name
                yield from broken(item, inner, before.get(name), where, unchanged=unchanged)
    elif isinstance(value, list) and node.items is not None:
        known = _by_key(old, node.schema) if isinstance(old, list) else {}
        for index, item in enumerate(value):
            former = known.get(_key(item, node.schema))
            yield from broken(item, node.items, former, f"{path}[{index}]", unchanged=unchanged)


def _is_about_change(rule: Rule) -> bool:
    try:
        return "oldSelf" in compiled(rule.expression).variables()
    except ExpressionError:
        return False


def _by_key(items: list[Any], schema: JsonObject) -> dict[str, Any]:
    """Only items of a list with keys have a value before."""
    if schema.get("x-kubernetes-list-type") != "map":
        return {}
    return {_key(item, schema): item for item in items}


def _key(item: Any, schema: JsonObject) -> str:
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    return dumps([item.get(key) for key in keys]).decode() if isinstance(item, dict) else ""


def _judge(rule: Rule, value: Any, schema: JsonObject, old: Any, path: str) -> Cause | None:
    if unsupported(rule.expression):
        return None  # the definition was answered with a warning
    try:
        program = compiled(rule.expression)
    except ExpressionError:
        return None  # refused when the definition came; this one was stored before that was so
    variables = {"self": _native(value, schema)}
    if "oldSelf" in program.variables():
        if rule.optional_old:
            optional = _cel().OptionalValue
            before = _native(old, schema)
            variables["oldSelf"] = optional.none() if old is None else optional.of(before)
        elif old is None:
            return None
        else:
            variables["oldSelf"] = _native(old, schema)
    told = rule.message or f"failed rule: {rule.expression.strip()}"
    where = _below(path, rule.field_path)
    try:
        result = _execute(program, variables)
    except ExpressionError as error:
        kind = '"object"' if isinstance(value, dict) else dumps(value).decode()
        message = f"Invalid value: {kind}: {error} evaluating rule: {told}"
        return Cause("FieldValueInvalid", path or "<nil>", message)
    if result is True:
        return None
    return _cause(rule.reason, where, _told(rule, variables) or told, value)


def _told(rule: Rule, variables: Mapping[str, Any]) -> str:
    """What messageExpression says, "" when it says nothing of use."""
    if not rule.message_expression or unsupported(rule.message_expression):
        return ""
    try:
        text = _execute(compiled(rule.message_expression), variables)
    except ExpressionError:
        return ""  # as upstream: the message or the rule itself is shown then
    return text.strip() if isinstance(text, str) and "\n" not in text else ""


def _cause(reason: str, path: str, message: str, value: Any) -> Cause:
    match reason:
        case "FieldValueForbidden":
            text = f"Forbidden: {message}"
        case "FieldValueRequired":
            text = f"Required value: {message}"
        case "FieldValueDuplicate":
            text = f"Duplicate value: {dumps(value).decode()}"
        case _:
            text = f"Invalid value: {message}"
    return Cause(reason, path or "<nil>", text)


def _below(path: str, relative: str) -> str:
    """A rule's fieldPath (`.a.b`, `['a']`) below the path of the rule."""
    steps = re.sub(r"\['([^']*)'\]", r".\1", relative).strip(".")
    return ".".join(part for part in (path, steps) if part)


def _execute(program: Program, variables: Mapping[str, Any]) -> Any:
    """The result; ExpressionError says what went wrong in the words of CEL."""
    context = _cel().Context(dict(variables))
    for name, function in _FUNCTIONS.items():
        context.add_function(name, function)
    try:
        return program.execute(context)
    except KeyError as error:
        raise ExpressionError(f"no such key: {error.args[0]}") from error
    except (ValueError, TypeError, IndexError, ArithmeticError, RuntimeError) as error:
        raise ExpressionError(str(error).partition(". ")[0]) from error


@lru_cache(maxsize=1)
def _cel() -> Any:
    return importlib.import_module("cel")  # 0.2 s, which clusters without rules do not pay


# --- values ----------------------------------------------------------------------------------------

_ESCAPES = {"-": "__dash__", ".": "__dot__", "/": "__slash__", "__": "__underscores__"}
_WORDS = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
     "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"}
)  # fmt: skip


def _native(value: Any, schema: JsonObject) -> Any:
    """A JSON value as CEL sees it: field names escaped, times and numbers typed by the schema."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        additional = schema.get("additionalProperties")
        other = additional if isinstance(additional, dict) else {}
        return {
            _escaped(key) if key in properties else key: _native(item, properties.get(key, other))
            for key, item in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items")
        return [_native(item, items if isinstance(items, dict) else {}) for item in value]
    if isinstance(value, str):
        return _typed_text(value, schema.get("format"))
    if schema.get("type") == "number" and not isinstance(value, bool) and isinstance(value, int):
        return float(value)
    return value


def _escaped(name: str) -> str:
    if name in _WORDS:
        return f"__{name}__"
    return re.sub(r"__|[-./]", lambda found: _ESCAPES[found[0]], name)


def _typed_text(text: str, form: str | None) -> Any:
    """Malformed text stays text: the schema has refused it already."""
    try:
        match form:
            case "date-time":
                return datetime.fromisoformat(text)
            case "date":
                return datetime.fromisoformat(f"{text}T00:00:00+00:00")
            case "byte":
                return base64.b64decode(text, validate=True)
            case "duration":
                return _duration(text)
    except (ValueError, binascii.Error):
        pass
    return text


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def _duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("+-"):
        raise ValueError(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


# --- functions of Kubernetes -----------------------------------------------------------------------
# They must not raise: the package would print it. Where upstream's evaluation ends in an error they
# give null, which no sound rule takes for true.


def _char_at(text: str, index: int) -> str | None:
    return text[index : index + 1] if 0 <= index <= len(text) else None


def _substring(text: str, start: int, end: int | None = None) -> str | None:
    last = len(text) if end is None else end
    return text[start:last] if 0 <= start <= last <= len(text) else None


def _index_of(where: str | list[Any], what: Any, start: int = 0) -> int:
    if isinstance(where, str):
        return where.find(what, start)
    return next((place for place, item in enumerate(where) if item == what), -1)


def _last_index_of(where: str | list[Any], what: Any) -> int:
    if isinstance(where, str):
        return where.rfind(what)
    return next((place for place in range(len(where) - 1, -1, -1) if where[place] == what), -1)


def _replace(text: str, old: str, new: str, most: int = -1) -> str:
    return text.replace(old, new, most)


def _split(text: str, separator: str, most: int = -1) -> list[str]:
    if most == 0:
        return []
    if not separator:
        return list(text)
    return text.split(separator, -1 if most < 0 else most - 1)


def _find(text: str, pattern: str) -> str | None:
    found = _search(text, pattern)
    return None if found is None else found[0] if found else ""


def _find_all(text: str, pattern: str, most: int = -1) -> list[str] | None:
    found = _search(text, pattern)
    return found if found is None or most < 0 else found[:most]


def _search(text: str, pattern: str) -> list[str] | None:
    try:
        return [match.group(0) for match in re2.finditer(pattern, text)]
    except re2.error:
        return None


def _is_sorted(items: list[Any]) -> bool:
    return _quietly(lambda: all(left <= right for left, right in pairwise(items))) is True


def _quietly(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except (TypeError, ValueError):
        return None


def _is_address(text: str) -> bool:
    return _quietly(lambda: ipaddress.ip_address(text)) is not None


def _is_network(text: str) -> bool:
    return "/" in text and _quietly(lambda: ipaddress.ip_network(text, strict=False)) is not None


def _is_url(text: str) -> bool:
    """An absolute URL or an absolute path, as Go's ParseRequestURI demands."""
    parts = _quietly(lambda: urlsplit(text))
    return parts is not None and (text.startswith("/") or bool(parts.scheme and (parts.netloc or parts.path)))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "charAt": _char_at,
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "lowerAscii": lambda text: re.sub("[A-Z]+", lambda found: found[0].lower(), text),
    "upperAscii": lambda text: re.sub("[a-z]+", lambda found: found[0].upper(), text),
    "replace": _replace,
    "split": _split,
    "join": lambda items, separator="": _quietly(lambda: separator.join(items)),
    "substring": _substring,
    "trim": lambda text: text.strip(),
    "find": _find,
    "findAll": _find_all,
    "sum": lambda items: _quietly(lambda: sum(items)),
    "min": lambda items: _quietly(lambda: min(items)),
    "max": lambda items: _quietly(lambda: max(items)),
    "isSorted": _is_sorted,
    "isURL": _is_url,
    "isIP": _is_address,
    "isCIDR": _is_network,
}
_NATIVE = (
    "size", "matches", "contains", "startsWith", "endsWith", "string", "int", "uint", "double", "bytes",
    "type", "dyn", "duration", "timestamp", "of", "none", "hasValue", "value", "orValue", "getFullYear",
    "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes",
    "getSeconds", "getMilliseconds",
)  # fmt: skip
_KNOWN = frozenset({*_FUNCTIONS, *_NATIVE})
