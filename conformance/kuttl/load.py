"""Reads suites from directories."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.kuttl.layout import File, Test, Values, assemble, documents
from conformance.kuttl.model import FormatError, Object, TestSuite, is_settings

CONFIG: Final = "kuttl-test.yaml"
MANIFESTS: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Directory:
    """One test's place: the suite it belongs to and its own directory."""

    suite: str
    path: Path

    @property
    def name(self) -> str:
        return self.path.name


def read_suite(directory: Path, config: Path | None) -> tuple[TestSuite, Path]:
    """The TestSuite of a directory (or its defaults), and what its paths are relative to."""
    file = config or directory / CONFIG
    if config is None and not file.is_file():
        return TestSuite(), directory
    suites = [obj for obj in documents(_text(file), str(file)) if is_settings(obj)]
    if len(suites) != 1 or suites[0]["kind"] != "TestSuite":
        raise FormatError(f"{file}: expected one TestSuite of kuttl.dev/v1beta1")
    return TestSuite.read(suites[0], str(file)), file.parent


def find_tests(suite: TestSuite, base: Path, directory: Path) -> list[Directory]:
    """Every directory below the suite's testDirs (without any: below `directory`); raises FormatError."""
    found: list[Directory] = []
    for name in suite.testDirs or (None,):
        place = directory if name is None else base / name
        if name is not None and "://" in name:
            raise FormatError(f"testDirs: {name}: suites are not fetched from the network")
        if not place.is_dir():
            raise FormatError(f"testDirs: {place} is not a directory")
        label = name or str(directory)
        found += [Directory(label, path) for path in sorted(place.iterdir()) if path.is_dir()]
    return [test for test in found if not test.name.startswith((".", "__"))]


def read_test(directory: Directory, ignored: Iterable[str], values: Values) -> Test:
    """One test with all its files; raises FormatError."""
    patterns = tuple(ignored)
    files = [
        File(path.relative_to(directory.path), _text(path))
        for entry in sorted(directory.path.iterdir())
        if not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in patterns)
        for path in _files(entry)
    ]
    return assemble(directory.name, files, lambda path: _named(directory.path, path), values)


def _files(entry: Path) -> Iterator[Path]:
    """A file, or the files directly inside a step's directory; only YAML is read."""
    if entry.is_file() and entry.suffix == ".yaml":
        yield entry
    elif entry.is_dir() and entry.name[:1].isdigit():
        yield from (path for path in sorted(entry.iterdir()) if path.is_file())


def _named(directory: Path, name: str) -> list[File]:
    """What a TestStep names: one file, or the YAML files of a directory."""
    path = directory / name
    if path.is_dir():
        return [File(file.relative_to(directory), _text(file)) for file in sorted(path.glob("*.yaml"))]
    if not path.is_file():
        raise FormatError(f"{path} is not there")
    return [File(Path(name), _text(path))]


def read_manifests(directory: Path) -> list[Object]:
    """Every object in the manifests below a directory, in the order of paths."""
    if not directory.is_dir():
        raise FormatError(f"{directory} is not a directory")
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix in MANIFESTS)
    return [obj for path in files for obj in documents(_text(path), str(path))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: {error}") from None
