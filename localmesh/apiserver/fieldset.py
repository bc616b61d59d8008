"""Sets of fields, and what ownership asks of values: which fields there are, which changed, merge, remove.

A path is a tuple of FieldsV1 elements: `f:name` for a field or key, `k:{"name":"x"}` for an item of a keyed
list, `v:"x"` for one of a set. A set of paths holds leaves and, where they are owned by themselves, the
objects around them. Pure functions that share parts of their arguments and change none of them. Source:
structured-merge-diff as documented in "Server-Side Apply".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from localmesh.apiserver.jsonvalue import JsonObject, dumps, loads
from localmesh.apiserver.structure import Structure

Path = tuple[str, ...]
Fields = frozenset[Path]
NOTHING: Fields = frozenset()
ITSELF = "."
MAX_DEPTH = 64
"""Steps of a path; deeper FieldsV1 are refused."""


class MalformedFieldsError(ValueError):
    """The JSON is no FieldsV1."""


# --- FieldsV1 --------------------------------------------------------------------------------------


def from_json(value: Any) -> Fields:
    """The set a FieldsV1 object stands for."""
    return frozenset(_read(value, ()))


def _read(value: Any, path: Path) -> Iterator[Path]:
    if not isinstance(value, dict):
        raise MalformedFieldsError(f"expected an object at {'/'.join(path) or 'the root'}")
    if len(path) > MAX_DEPTH:
        raise MalformedFieldsError(f"more than {MAX_DEPTH} levels")
    if path and (not value or ITSELF in value):
        yield path
    for element, inner in value.items():
        if element != ITSELF:
            if element[:2] not in ("f:", "k:", "v:", "i:"):
                raise MalformedFieldsError(f"{element!r} is no path element")
            yield from _read(inner, (*path, element))


def to_json(fields: Fields) -> JsonObject:
    """FieldsV1, in the order upstream writes it."""
    return _written(_tree(fields))


def _tree(fields: Fields) -> JsonObject:
    """Nested by element; a path of the set has ITSELF in its node."""
    root: JsonObject = {}
    for path in fields:
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node[ITSELF] = {}
    return root


def _written(node: JsonObject) -> JsonObject:
    return {
        element: {} if element == ITSELF or inner.keys() == {ITSELF} else _written(inner)
        for element, inner in sorted(node.items())
    }


def shown(path: Path) -> str:
    """A path as conflicts name it: `.spec.containers[name="web"].image`."""
    return "".join(_shown_element(element) for element in path)


def _shown_element(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return f".{text}"
    if kind == "k:":
        keys = loads(text)
        return "[" + ",".join(f"{name}={dumps(value).decode()}" for name, value in sorted(keys.items())) + "]"
    return f"[={text}]" if kind == "v:" else f"[{text}]"


# --- which fields a value has ------------------------------------------------------------------------


def element_of(item: Any, structure: Structure) -> str:
    """The element of an item of a keyed list or a set."""
    if structure.relation == "set":
        return "v:" + dumps(item).decode()
    given = item if isinstance(item, dict) else {}
    keys = {name: given.get(name, default) for name, default in structure.keys}
    return "k:" + dumps({name: keys[name] for name in sorted(keys) if keys[name] is not None}).decode()


def fields_of(value: JsonObject, structure: Structure) -> Fields:
    """What applying the value would own."""
    return frozenset(_fields(value, structure, ()))


def _fields(value: Any, structure: Structure, path: Path) -> Iterator[Path]:
    if structure.relation == "granular" and isinstance(value, dict):
        for name, item in value.items():
            member = structure.member(name)
            where = (*path, f"f:{name}")
            if not member.declared or item is None or item == {} or item == []:
                yield where
            if item is not None:
                yield from _fields(item, member.structure, where)
    elif structure.relation in ("keyed", "set") and isinstance(value, list):
        inner = structure.item()
        for item in value:
            where = (*path, element_of(item, structure))
            yield where
            yield from _fields(item, inner, where)
    elif path:
        yield path


# --- what changed ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changes:
    added: Fields
    modified: Fields
    removed: Fields


class _Absent:
    """There is no value, which is another thing than null."""


_ABSENT = _Absent()


def compare(old: JsonObject, new: JsonObject, structure: Structure) -> Changes:
    """The fields in which two objects of a kind differ."""
    found: tuple[list[Path], list[Path], list[Path]] = ([], [], [])
    _compare(old, new, structure, (), found)
    added, modified, removed = map(frozenset, found)
    return Changes(added, modified, removed)


_Found = tuple[list[Path], list[Path], list[Path]]


def _compare(old: Any, new: Any, structure: Structure, path: Path, found: _Found) -> None:
    if old is new:
        return
    added, modified, removed = found
    if old is _ABSENT:
        added.append(path)
    elif new is _ABSENT:
        removed.append(path)
    if structure.relation == "granular" and _are(dict, old, new):
        _compare_objects(old, new, structure, path, found)
    elif structure.relation in ("keyed", "set") and _are(list, old, new):
        _compare_lists(old, new, structure, path, found)
    elif old is not _ABSENT and new is not _ABSENT and not _same(old, new):
        modified.append(path)


def _are(kind: type, old: Any, new: Any) -> bool:
    """Both are of the kind, an absent or null one counting as empty; and not both are empty."""
    return all(isinstance(side, kind) or side is None or side is _ABSENT for side in (old, new)) and bool(
        (old or new) and not (old is _ABSENT and not new) and not (new is _ABSENT and not old)
    )


def _compare_objects(old: Any, new: Any, structure: Structure, path: Path, found: _Found) -> None:
    before, after = _object(old), _object(new)
    for name in {**before, **after}:
        member = structure.member(name)
        left, right = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if member.present:  # an object that is there has it, if only empty
            nothing: Any = {} if member.structure.relation == "granular" else None
            left = nothing if left is _ABSENT and isinstance(old, dict) else left
            right = nothing if right is _ABSENT and isinstance(new, dict) else right
        _compare(left, right, member.structure, (*path, f"f:{name}"), found)


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _compare_lists(old: Any, new: Any, structure: Structure, path: Path, found: _Found) -> None:
    before, after = _by_element(old, structure), _by_element(new, structure)
    inner = structure.item()
    for element in {**before, **after}:
        left, right = before.get(element, _ABSENT), after.get(element, _ABSENT)
        _compare(left, right, inner, (*path, element), found)


def _by_element(value: Any, structure: Structure) -> dict[str, Any]:
    """Items by element; of duplicates, which only updates may bring, the first counts."""
    result: dict[str, Any] = {}
    for item in value if isinstance(value, list) else ():
        result.setdefault(element_of(item, structure), item)
    return result


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


# --- merge and remove --------------------------------------------------------------------------------


def merged(live: Any, applied: Any, structure: Structure) -> Any:
    """The live value with what is applied in it; lists that merge take the order of the applied one."""
    if structure.relation == "granular" and isinstance(live, dict) and isinstance(applied, dict):
        result = dict(live)
        for name, item in applied.items():
            inner = structure.member(name).structure
            result[name] = merged(live[name], item, inner) if name in live else item
        return result
    if structure.relation in ("keyed", "set") and isinstance(live, list) and isinstance(applied, list):
        return _merged_list(live, applied, structure)
    return applied


def _merged_list(live: list[Any], applied: list[Any], structure: Structure) -> list[Any]:
    """Items of both in applied order; those only live has keep their place behind their predecessor."""
    known = _by_element(live, structure)
    wanted = [(element_of(item, structure), item) for item in applied]
    shared = {element for element, _ in wanted}
    waiting = [element_of(item, structure) for item in live]
    inner = structure.item()
    result: list[Any] = []
    done: set[str] = set()

    def take_live_only() -> None:
        while waiting and (waiting[0] not in shared or waiting[0] in done):
            element = waiting.pop(0)
            if element not in shared:
                result.append(known[element])

    for element, item in wanted:
        take_live_only()
        result.append(merged(known[element], item, inner) if element in known else item)
        done.add(element)
    waiting = [element for element in waiting if element not in shared]
    take_live_only()
    return result


def without(value: JsonObject, fields: Fields, structure: Structure) -> JsonObject:
    """The object without some of its fields; what is empty then is gone too."""
    result = _without(value, _tree(fields), structure) if fields else value
    return result if isinstance(result, dict) else {}


def _without(value: Any, node: JsonObject, structure: Structure) -> Any:
    """None when nothing is left."""
    if structure.relation == "granular" and isinstance(value, dict):
        kept: JsonObject = {}
        for name, item in value.items():
            inner = node.get(f"f:{name}")
            if inner is None:
                kept[name] = item
            elif ITSELF not in inner:
                rest = _without(item, inner, structure.member(name).structure)
                if rest is not None:
                    kept[name] = rest
        return kept or None
    if structure.relation in ("keyed", "set") and isinstance(value, list):
        items = []
        for item in value:
            inner = node.get(element_of(item, structure))
            if inner is None:
                items.append(item)
            elif ITSELF not in inner:
                rest = _without(item, inner, structure.item())
                if rest is not None:
                    items.append(rest)
        return items or None
    return value


def with_named(fields: Fields, structure: Structure) -> Fields:
    """The set with the declared fields that lie around its members."""
    result = set(fields)
    for path in fields:
        around: Path = ()
        current = structure
        for element in path[:-1]:
            around = (*around, element)
            if element.startswith("f:"):
                member = current.member(element[2:])
                if member.declared and current.relation == "granular":
                    result.add(around)
                current = member.structure
            else:
                current = current.item()
    return frozenset(result)
