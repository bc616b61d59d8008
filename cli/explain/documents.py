"""Text of manifests → objects that know where they stand.

Pure: text in, objects and complaints out. A field's place is looked up only when somebody asks,
along its own path, so that anchors and aliases cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from smi.findings import ObjectRef

MAX_OBJECTS: Final = 50_000
"""Objects of one run: a cluster's dump, and then some."""


class _Loader(yaml.CSafeLoader):
    """The safe loader without YAML 1.1's dates: Kubernetes keeps them as the text they are."""


yaml.add_constructor(
    "tag:yaml.org,2002:timestamp", yaml.constructor.SafeConstructor.construct_yaml_str, Loader=_Loader
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a file: lines and columns count from 1, columns in characters."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One Kubernetes object of a file."""

    file: str
    body: Mapping[str, Any]
    node: yaml.Node = field(repr=False)

    @property
    def kind(self) -> str:
        return str(self.body.get("kind") or "")

    def ref(self, namespace: str) -> ObjectRef:
        """Its name; `namespace` is meant where it says none."""
        metadata = self.body.get("metadata")
        metadata = metadata if isinstance(metadata, Mapping) else {}
        group = str(self.body.get("apiVersion") or "").rpartition("/")[0]
        space = "" if self.kind == "Namespace" else str(metadata.get("namespace") or namespace)
        return ObjectRef(group, self.kind, space, str(metadata.get("name") or ""))

    def place(self, path: str = "") -> Place:
        """Where the field at a dotted path (`spec.backends[1].weight`) stands.

        Of a path that is not there, its deepest part that is; of none, the object's name. Paths are
        those of the newest version of a kind: older ones have no `spec` around some kinds' fields.
        """
        found = _follow(self.node, path) if path else None
        if found is None and path.startswith("spec."):
            found = _follow(self.node, path.removeprefix("spec."))
        if found is None:
            found = _follow(self.node, "metadata.name")
        return _at(self.file, found or self.node)


@dataclass(frozen=True, slots=True)
class Complaint:
    """Text that holds no object."""

    place: Place
    message: str


def read(file: str, text: str) -> tuple[list[Document], list[Complaint]]:
    """The objects of one file, Lists taken apart. What is no Kubernetes object is left out."""
    found: list[Document] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said so
            found += _objects(file, loader.construct_document(node), node)
            if len(found) > MAX_OBJECTS:
                return found, [Complaint(_at(file, node), f"more than {MAX_OBJECTS} objects in one file")]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        return found, [Complaint(place, f"not YAML: {error.problem or error.context}")]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # ValueError: a scalar that a YAML tag makes something it is not (`!!int x`)
        return found, [Complaint(Place(file), f"not YAML: {error}")]
    finally:
        loader.dispose()
    return found, []


def _objects(file: str, body: object, node: yaml.Node) -> Iterator[Document]:
    if not isinstance(body, dict):
        return
    items = body.get("items")
    if str(body.get("kind") or "").endswith("List") and isinstance(items, list):
        nodes = _value(node, "items")
        if isinstance(nodes, yaml.SequenceNode):
            for item, inner in zip(items, nodes.value, strict=True):
                yield from _objects(file, item, inner)
    elif "apiVersion" in body and "kind" in body:
        yield Document(file, body, node)


_PART: Final = re.compile(r"\[(\d+)\]")
_OLD_NAMES: Final = {"rules": "specs"}
"""Field → its name in older versions of its kind."""


def _follow(node: yaml.Node, path: str) -> yaml.Node | None:
    """The deepest node along a path; None if not even its first part is there.

    Of an entry in a mapping the key counts: a block's value begins on the line below it.
    """
    best: yaml.Node | None = None
    while path:
        index = _PART.match(path)
        if index is not None:
            number, path = int(index[1]), path[index.end() :].lstrip(".")
            if not isinstance(node, yaml.SequenceNode) or number >= len(node.value):
                return best
            best = node = node.value[number]
            continue
        entry = _entry(node, path)
        if entry is None:
            return best
        best, node, path = entry
    return best


def _entry(node: yaml.Node, path: str) -> tuple[yaml.Node, yaml.Node, str] | None:
    """(key, value, rest of the path) of the longest key that a path begins with: keys may hold dots."""
    if isinstance(node, yaml.SequenceNode):  # specs v1alpha2 writes headers as a list of mappings
        return next((entry for item in node.value if (entry := _entry(item, path))), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    found = None
    for key, value in node.value:
        name = str(key.value)
        for known in (name, *(new for new, old in _OLD_NAMES.items() if old == name)):
            rest = path[len(known) :]
            if path.lower().startswith(known.lower()) and (not rest or rest[0] in ".["):
                found = min(found or (key, value, path), (key, value, rest.lstrip(".")), key=_rest)
    return found


def _rest(entry: tuple[yaml.Node, yaml.Node, str]) -> int:
    return len(entry[2])


def _value(node: yaml.Node, name: str) -> yaml.Node | None:
    entry = _entry(node, name)
    return entry[1] if entry else None


def _at(file: str, node: yaml.Node) -> Place:
    return Place(file, node.start_mark.line + 1, node.start_mark.column + 1)
