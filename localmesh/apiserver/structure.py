"""How values are put together, as far as ownership of their parts goes: what is one piece, what has keys.

Built-in kinds from a generated table (see generate_structure), custom ones from their schemas' list and map
types. Source: structured-merge-diff as documented in "Server-Side Apply".
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from localmesh.apiserver.jsonvalue import JsonObject, loads
from localmesh.apiserver.registry import Resource
from localmesh.apiserver.types import table

PATH = Path(__file__).with_name("data") / "structure.json.gz"
TYPE_ITSELF = "@"
"""The entry of a type that is one piece wherever it is used."""
_META = "V1ObjectMeta"

Relation = Literal["granular", "atomic", "set", "keyed"]


@dataclass(frozen=True, slots=True)
class Member:
    """A field of an object, or what stands for all of a map's."""

    structure: Structure
    declared: bool
    """A field the type names, not a key of a map."""
    present: bool = False
    """Even an empty object of the type is written with it."""
    known: bool = True
    """The type has it, or takes any."""


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A value: one piece, or an object or list whose parts have owners of their own."""

    relation: Relation
    member: Callable[[str], Member]
    item: Callable[[], Structure]
    keys: tuple[tuple[str, Any], ...] = ()
    """Of a keyed list: names and defaults (None: none)."""


def structure_of(resource: Resource, version: str) -> Structure:
    """The structure of a kind's objects."""
    if resource.is_custom:
        return _root(resource.schema_of(version).schema)
    return kind_structure(resource.api_version(version), resource.kind)


def kind_structure(api_version: str, kind: str) -> Structure:
    """The structure of a built-in kind's objects."""
    name = table().of_kind(api_version, kind)
    return _type(name) if name else DEDUCED


# --- without a schema ------------------------------------------------------------------------------


def _piece_member(_name: str) -> Member:
    return Member(PIECE, declared=False)


def _piece_item() -> Structure:
    return PIECE


PIECE = Structure("atomic", _piece_member, _piece_item)
"""Scalars, and whatever is replaced as a whole."""


def _deduced_member(_name: str) -> Member:
    return Member(DEDUCED, declared=False)


DEDUCED = Structure("granular", _deduced_member, _piece_item)
"""Nothing is known: objects merge, lists are one piece."""
UNKNOWN = Member(DEDUCED, declared=False, known=False)


# --- built-in kinds --------------------------------------------------------------------------------


@cache
def _facts() -> Mapping[str, Mapping[str, str]]:
    return loads(gzip.decompress(PATH.read_bytes()))  # type: ignore[no-any-return]  # generated


@cache
def _type(name: str) -> Structure:
    fields = table().types[name]
    told = _facts().get(name, {})
    if not fields or told.get(TYPE_ITSELF) == "atomic":
        return DEDUCED if not fields else PIECE

    @cache
    def member(field_name: str) -> Member:
        field = fields.get(field_name)
        if field is None:
            return UNKNOWN
        words = told.get(field_name, "").split()
        present = "present" in words or (field.required and field.type.startswith("[]"))
        relation = [word for word in words if word != "present"]
        return Member(_of_type(field.type, relation), declared=True, present=present)

    return Structure("granular", member, _piece_item)


def _of_type(text: str, relation: list[str]) -> Structure:
    if relation == ["atomic"]:
        return PIECE
    if text.startswith("[]"):
        inner = _of_type(text[2:], [])
        if not relation:
            return PIECE
        if relation == ["set"]:
            return Structure("set", _piece_member, _piece_item)
        keys = tuple(_key(word) for word in relation[1:])
        return Structure("keyed", _piece_member, lambda: inner, keys)
    if text.startswith("{}"):
        value = Member(_of_type(text[2:], []), declared=False)
        return Structure("granular", lambda _name: value, _piece_item)
    if text == "any":
        return DEDUCED
    return _type(text) if text in table().types else PIECE


def _key(word: str) -> tuple[str, Any]:
    name, _, default = word.partition("=")
    return name, default or None


# --- custom kinds ----------------------------------------------------------------------------------


def _root(schema: JsonObject) -> Structure:
    inner = _schema(schema)

    def member(name: str) -> Member:
        match name:
            case "metadata":
                return Member(_type(_META), declared=True, present=True)
            case "apiVersion" | "kind":
                return Member(PIECE, declared=True)
        return inner.member(name)

    return Structure("granular", member, _piece_item)


def _schema(schema: JsonObject) -> Structure:
    match schema.get("type"):
        case "array":
            return _list(schema)
        case "object" if schema.get("x-kubernetes-map-type") == "atomic":
            return PIECE
        case "object":
            return _object(schema)
        case None if schema.get("x-kubernetes-preserve-unknown-fields"):
            return DEDUCED
    return PIECE


def _object(schema: JsonObject) -> Structure:
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    embedded = schema.get("x-kubernetes-embedded-resource")
    if isinstance(additional, dict):
        other = Member(_schema(additional), declared=False)
    elif additional or schema.get("x-kubernetes-preserve-unknown-fields"):
        other = Member(DEDUCED, declared=False)
    else:
        other = UNKNOWN

    def member(name: str) -> Member:
        if name in properties:
            return Member(_schema(properties[name]), declared=True)
        if embedded and name in ("apiVersion", "kind", "metadata"):
            return Member(DEDUCED, declared=True)
        return other

    return Structure("granular", member, _piece_item)


def _list(schema: JsonObject) -> Structure:
    items = schema.get("items")
    items = items if isinstance(items, dict) else {}
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return Structure("set", _piece_member, _piece_item)
        case "map":
            known = items.get("properties") or {}
            names = schema.get("x-kubernetes-list-map-keys") or ()
            keys = tuple((name, (known.get(name) or {}).get("default")) for name in names)
            return Structure("keyed", _piece_member, lambda: _schema(items), keys)
    return PIECE
