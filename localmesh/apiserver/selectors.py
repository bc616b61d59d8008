"""Label and field selectors: parsed once, matched often. Grammar: Kubernetes' labels and fields packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from localmesh.apiserver.errors import bad_request
from localmesh.apiserver.jsonvalue import JsonObject

Operator = Literal["=", "!=", "in", "notin", "exists", "!"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label or field; absent satisfies `!=` and `notin`, as upstream."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        present = self.key in labels
        match self.operator:
            case "exists":
                return present
            case "!":
                return not present
            case "=" | "in":
                return present and labels[self.key] in self.values
            case "!=" | "notin":
                return not present or labels[self.key] not in self.values


@dataclass(frozen=True, slots=True)
class LabelSelector:
    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        return all(requirement.matches(labels or {}) for requirement in self.requirements)


EVERYTHING = LabelSelector()

_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z0-9_./-]+)|(?P<sign>==|!=|=|!|,|\(|\)))")


def _tokens(text: str) -> list[str]:
    tokens = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise bad_request(
                f"unable to parse requirement: unexpected {text[position:].strip()[0]!r} in {text!r}"
            )
        tokens.append(match.group().strip())
        position = match.end()
    return tokens


_SIGNS = frozenset({"==", "!=", "=", "!", ",", "(", ")"})


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _word(self) -> str:
        token = self._take()
        if not token or token in _SIGNS:
            raise bad_request(f"unable to parse requirement: found '{token}', expected: identifier")
        return token

    def parse(self) -> tuple[Requirement, ...]:
        found = []
        while self._peek():
            found.append(self._requirement())
            if self._peek() and self._take() != ",":
                shown = self._tokens[self._next - 1]
                raise bad_request(
                    f"unable to parse requirement: found '{shown}', expected: ',' or 'end of string'"
                )
        return tuple(found)

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return Requirement(self._word(), "!")
        key = self._word()
        if self._peek() in ("", ","):
            return Requirement(key, "exists")
        sign = self._take()
        if sign in ("=", "==", "!="):
            return Requirement(key, "!=" if sign == "!=" else "=", frozenset({self._value()}))
        if sign in ("in", "notin"):
            return Requirement(key, "in" if sign == "in" else "notin", self._set())
        raise bad_request(
            f"unable to parse requirement: found '{sign}', expected: in, notin, =, ==, !=, gt, lt"
        )

    def _value(self) -> str:
        return "" if self._peek() in ("", ",") else self._word()

    def _set(self) -> frozenset[str]:
        if self._take() != "(":
            raise bad_request("unable to parse requirement: expected: '('")
        values = set()
        while True:
            values.add("" if self._peek() in (",", ")") else self._word())
            token = self._take()
            if token == ")":
                return frozenset(values)
            if token != ",":
                raise bad_request(f"unable to parse requirement: found '{token}', expected: ',' or ')'")


def parse_labels(text: str | None) -> LabelSelector:
    """The `labelSelector` query parameter; raises ApiError 400."""
    return LabelSelector(_Parser(text).parse()) if text else EVERYTHING


_JSON_OPERATORS: Mapping[str, Operator] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
}


def from_json(selector: JsonObject | None) -> LabelSelector:
    """A `metav1.LabelSelector` object; None or empty selects everything. Unknown operators match nothing."""
    if not selector:
        return EVERYTHING
    found = [
        Requirement(key, "=", frozenset({value}))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or []:
        operator = _JSON_OPERATORS.get(expression.get("operator"), "in")
        found.append(Requirement(expression["key"], operator, frozenset(expression.get("values") or ())))
    return LabelSelector(tuple(found))


@dataclass(frozen=True, slots=True)
class FieldSelector:
    requirements: tuple[Requirement, ...] = ()

    def matches(self, obj: JsonObject) -> bool:
        return all(self._holds(requirement, obj) for requirement in self.requirements)

    @staticmethod
    def _holds(requirement: Requirement, obj: JsonObject) -> bool:
        value = field_text(obj, requirement.key)
        return (value in requirement.values) == (requirement.operator == "=")

    @property
    def name(self) -> str | None:
        """The value of a `metadata.name=` requirement, for look-ups that need not scan."""
        for requirement in self.requirements:
            if requirement.key == "metadata.name" and requirement.operator == "=":
                return next(iter(requirement.values))
        return None


ALL_FIELDS = FieldSelector()

_PATHS: Mapping[str, tuple[str, ...]] = {
    "source": ("source", "component"),
    "status.successful": ("status", "succeeded"),
}


def field_text(obj: JsonObject, path: str) -> str:
    """A field as selectors compare it: absent is empty, booleans and numbers as JSON writes them."""
    value: Any = obj
    for step in _PATHS.get(path) or path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_TERM = re.compile(r"(?P<key>[^=!]+?)(?P<sign>==|!=|=)(?P<value>.*)", re.DOTALL)


def parse_fields(text: str | None, supported: Callable[[str], bool]) -> FieldSelector:
    """The `fieldSelector` query parameter; raises ApiError 400 for syntax and unsupported fields."""
    if not text:
        return ALL_FIELDS
    found = []
    for term in re.split(r"(?<!\\),", text):
        if not term:
            continue
        match = _TERM.fullmatch(term)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        key = match["key"]
        if key not in ("metadata.name", "metadata.namespace") and not supported(key):
            raise bad_request(f"field label not supported: {key}")
        value = re.sub(r"\\([\\,=])", r"\1", match["value"])
        found.append(Requirement(key, "!=" if match["sign"] == "!=" else "=", frozenset({value})))
    return FieldSelector(tuple(found))
