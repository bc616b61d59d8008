"""Finds the cases: every `.py` with its `.yaml` below `conformance/cases/`. Nothing is registered."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from conformance.case import Case
from conformance.features import Group

CASES: Final = Path(__file__).parent / "cases"
_SAFE: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: the cases' manifests are read at every start of the command."""
_PLACEHOLDER: Final = re.compile(r"\$\{([a-z_]+)\}")


class CollectError(ValueError):
    """A case that cannot be loaded; the text names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One case with the text of its manifests."""

    case: Case
    manifest: str
    source: str
    """Path of the `.py`, relative to the package's parent."""

    @property
    def id(self) -> str:
        """`<group>/<name>`, unique."""
        return f"{self.case.group}/{self.case.name}"

    @property
    def objects(self) -> tuple[dict[str, Any], ...]:
        """The objects of all steps, every placeholder filled with `1`; raises CollectError."""
        values = dict.fromkeys(_PLACEHOLDER.findall(self.manifest), "1")
        steps = parse_steps(self.manifest, values, self.source)
        return tuple(obj for objects in steps.values() for obj in objects)


def collect(root: Path = CASES) -> tuple[Entry, ...]:
    """All cases in the order of groups and names; raises CollectError for any that is not in order."""
    entries = [_load(path, group) for group in Group for path in _modules(root / group.value)]
    names = [entry.case.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CollectError(f"case names are not unique: {', '.join(twice)}")
    return tuple(entries)


def _modules(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))


def _load(path: Path, group: Group) -> Entry:
    module = importlib.import_module(f"conformance.cases.{group.value}.{path.stem}")
    case = getattr(module, "CASE", None)
    manifest = path.with_suffix(".yaml")
    if not isinstance(case, Case):
        raise CollectError(f"{path}: defines no CASE = Case(...)")
    if case.name != path.stem.replace("_", "-"):
        raise CollectError(f"{path}: the case is called {case.name!r}, expected the file's name with dashes")
    if case.group is not group:
        raise CollectError(
            f"{path}: feature {case.feature} belongs to {case.group}, the file lies in {group}"
        )
    if not manifest.is_file():
        raise CollectError(f"{manifest} is missing")
    text = manifest.read_text(encoding="utf-8")
    entry = Entry(case, text, f"conformance/cases/{group.value}/{path.name}")
    _ = entry.objects  # so that a manifest that cannot be read is found before a run
    return entry


def parse_steps(
    text: str, values: Mapping[str, object], where: str
) -> Mapping[str, tuple[dict[str, Any], ...]]:
    """The objects of a case's YAML by step, placeholders filled in; raises CollectError."""
    steps: dict[str, list[dict[str, Any]]] = {"": []}
    current = ""
    try:
        documents = list(yaml.load_all(fill(text, values), Loader=_SAFE))
    except (yaml.YAMLError, KeyError) as error:
        raise CollectError(f"{where}: {error}") from None
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise CollectError(f"{where}: a document is not an object")
        if set(document) == {"step"}:
            current = str(document["step"])
            steps.setdefault(current, [])
        elif "apiVersion" in document and "kind" in document and "name" in document.get("metadata", {}):
            steps[current].append(document)
        else:
            raise CollectError(f"{where}: a document without apiVersion, kind and metadata.name")
    return {name: tuple(objects) for name, objects in steps.items()}


def fill(text: str, values: Mapping[str, object]) -> str:
    """Replace `${name}`; a name without a value is left for the step that brings it."""
    return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), text)


def select(
    entries: Iterable[Entry], groups: Iterable[str], features: Iterable[str], cases: Iterable[str]
) -> tuple[Entry, ...]:
    """The cases in any of `groups`, of any of `features`, with any of these names (empty = all).

    Raises CollectError for a name that nothing has. A case may be written `name` or `group/name`.
    """
    known = tuple(entries)
    wanted = (set(groups), set(features), set(cases))
    have = (
        {entry.case.group.value for entry in known},
        {entry.case.feature for entry in known},
        {entry.case.name for entry in known} | {entry.id for entry in known},
    )
    for what, names, there in zip(("group", "feature", "case"), wanted, have, strict=True):
        unknown = sorted(names - there)
        if unknown:
            raise CollectError(
                f"no case has the {what} {', '.join(unknown)}: see `smi-mesh conformance list`"
            )
    return tuple(
        entry
        for entry in known
        if (not wanted[0] or entry.case.group.value in wanted[0])
        and (not wanted[1] or entry.case.feature in wanted[1])
        and (not wanted[2] or {entry.case.name, entry.id} & wanted[2])
    )
