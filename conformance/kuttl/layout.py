"""A test directory's files put together to steps. Pure: it is given texts and returns values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

import yaml

from conformance.kuttl import expand, names
from conformance.kuttl.model import FormatError, Object, TestAssert, TestFile, TestStep, is_settings
from conformance.kuttl.names import Role


@dataclass(frozen=True, slots=True)
class File:
    """One file of a test."""

    path: PurePath
    """Relative to the test's directory: `00-install.yaml` or `00-install/pod.yaml`."""
    text: str


@dataclass(frozen=True, slots=True)
class Values:
    """What is filled into manifests."""

    namespace: str
    environment: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of this run, for TestFile selectors."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, ready to run: delete, commands, apply, then assert."""

    index: int
    name: str
    settings: TestStep
    assertion: TestAssert
    apply: tuple[Object, ...]
    asserts: tuple[Object, ...]
    errors: tuple[Object, ...]

    @property
    def id(self) -> str:
        """`<index>-<name>`, as KUTTL calls it."""
        return f"{self.index}-{self.name}"

    @property
    def idle(self) -> bool:
        """Whether it does and asserts nothing by itself (its work is a function bound to its name)."""
        settings = self.settings
        return not (
            self.apply or self.asserts or self.errors
            or settings.delete or settings.commands or self.assertion.commands
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Test:
    """One test: a directory of steps with a namespace of its own."""

    __test__ = False  # not a class of pytest's
    name: str
    steps: tuple[Step, ...]
    left_out: tuple[str, ...] = ()
    """Files whose names the format does not know, or whose TestFile does not select this run."""


Fetch = Callable[[str], Iterable[File]]
"""The files at a path that a TestStep names (a file, or a directory's YAML files); raises FormatError."""


class _JsonYaml(yaml.SafeLoader):
    """YAML as Kubernetes reads it: `2020-01-01` is text."""


_JsonYaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_YAML: Final = _JsonYaml


def documents(text: str, where: str) -> list[Object]:
    """The objects of a file; raises FormatError for one without apiVersion and kind."""
    try:
        found = [document for document in yaml.load_all(text, Loader=_YAML) if document is not None]
    except yaml.YAMLError as error:
        raise FormatError(f"{where}: not YAML: {error}") from None
    objects: list[Object] = []
    for number, document in enumerate(found, 1):
        if not isinstance(document, dict):
            raise FormatError(f"{where}: document {number} is not an object")
        for name in ("apiVersion", "kind"):
            if not isinstance(document.get(name), str):
                raise FormatError(f"{where}: document {number} has no {name}")
        objects += _items(document, where)
    return objects


def _items(document: Object, where: str) -> list[Object]:
    if document["kind"] != "List" or document["apiVersion"] != "v1":
        return [document]
    items = document.get("items") or []
    if not all(isinstance(item, dict) and "kind" in item and "apiVersion" in item for item in items):
        raise FormatError(f"{where}: a List holds something that is not an object")
    return list(items)


@dataclass(slots=True)
class _Draft:
    """One step while its files are read."""

    index: int
    name: str = ""
    settings: TestStep | None = None
    assertion: TestAssert | None = None
    objects: dict[Role, list[Object]] = field(default_factory=lambda: {role: [] for role in Role})


def assemble(name: str, files: Iterable[File], fetch: Fetch, values: Values) -> Test:
    """The steps of a test in their order; raises FormatError with the file at fault."""
    drafts: dict[int, _Draft] = {}
    left_out: list[str] = []
    for file in sorted(files, key=lambda file: file.path.parts):
        where = f"{name}/{file.path}"
        outer, inner = names.parse(file.path.parts[0]), names.parse(file.path.name)
        if outer is None or outer.index is None:
            left_out.append(f"{where}: its name does not begin with a number and a dash")
            continue
        if inner is None:
            raise FormatError(f"{where}: the name does not follow <name>[-<name>][.gotmpl].yaml")
        draft = drafts.setdefault(outer.index, _Draft(outer.index))
        objects = _read(file, inner.template, values, where)
        if objects is None:
            left_out.append(f"{where}: its TestFile does not select this run")
            continue
        if not draft.name and (inner.role is Role.APPLY or len(file.path.parts) > 1):
            draft.name = outer.step if len(file.path.parts) > 1 else inner.step
        for obj in objects:
            _place(draft, inner.role, obj, where)
    steps = [_finish(draft, fetch, values, name) for draft in drafts.values()]
    if not steps:
        raise FormatError(f"{name}: no file begins with a number and a dash, so there is no step")
    return Test(name, tuple(sorted(steps, key=lambda step: step.index)), tuple(left_out))


def _read(file: File, template: bool, values: Values, where: str) -> list[Object] | None:
    """The objects of a file; None when its TestFile does not select this run."""
    text = expand.placeholders(file.text, values.namespace)
    if template:
        text = expand.template(text, values.namespace, values.environment, values.variables, where)
    objects = documents(text, where)
    selectors = [obj for obj in objects if is_settings(obj) and obj["kind"] == "TestFile"]
    if len(selectors) > 1:
        raise FormatError(f"{where}: more than one TestFile")
    if selectors and not TestFile.read(selectors[0], where).testRunSelector.selects(values.labels):
        return None
    return [obj for obj in objects if obj not in selectors]


def _place(draft: _Draft, role: Role, obj: Object, where: str) -> None:
    """Put one document where it belongs."""
    if not is_settings(obj):
        draft.objects[role].append(obj)
        return
    wanted = {"TestStep": Role.APPLY, "TestAssert": Role.ASSERT}.get(obj["kind"])
    if wanted is not role:
        raise FormatError(f"{where}: a {obj['kind']} does not belong into a file of this name")
    if obj["kind"] == "TestStep":
        if draft.settings is not None:
            raise FormatError(f"{where}: step {draft.index} has more than one TestStep")
        draft.settings = TestStep.read(obj, where)
        draft.name = draft.settings.metadata.name or draft.name
        return
    if draft.assertion is not None:
        raise FormatError(f"{where}: step {draft.index} has more than one TestAssert")
    draft.assertion = TestAssert.read(obj, where)


def _finish(draft: _Draft, fetch: Fetch, values: Values, test: str) -> Step:
    """Add what the TestStep names."""
    settings = draft.settings or TestStep()
    for role, paths in (
        (Role.APPLY, settings.apply),
        (Role.ASSERT, settings.assert_),
        (Role.ERRORS, settings.error),
    ):
        for path in paths:
            where = f"{test}: step {draft.index}: {role}: {path}"
            if "://" in path:
                raise FormatError(
                    f"{where}: nothing is fetched from the network; put the file beside the test"
                )
            for file in fetch(expand.dollars(path, values.environment)):
                objects = _read(
                    file, file.path.name.endswith(".gotmpl.yaml"), values, f"{where}: {file.path}"
                )
                for obj in objects or []:
                    _place(draft, role, obj, f"{where}: {file.path}")
    return Step(
        index=draft.index if settings.index is None else settings.index,
        name=draft.name,
        settings=settings,
        assertion=draft.assertion or TestAssert(),
        apply=_applicable(draft.objects[Role.APPLY], f"{test}: step {draft.index}"),
        asserts=tuple(draft.objects[Role.ASSERT]),
        errors=tuple(draft.objects[Role.ERRORS]),
    )


def _applicable(objects: list[Object], where: str) -> tuple[Object, ...]:
    for obj in objects:
        metadata: Any = obj.get("metadata") or {}
        if not (metadata.get("name") or metadata.get("generateName")):
            raise FormatError(f"{where}: {obj['kind']}: an object to apply needs metadata.name")
    return tuple(objects)
