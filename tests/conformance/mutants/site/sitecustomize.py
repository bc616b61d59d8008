"""Makes the Python process that finds this file on its path a mutant: it loads edited source.

SMI_MESH_MUTATION holds the edits as JSON, `[[module, before, after], …]`. A module that is named there is
compiled from its source with `before`, which must occur exactly once, replaced by `after`. Python imports
`sitecustomize` before anything of ours, so every importer gets the mutant. Used by the tests only; it is on
the path of a mutant's image and nowhere else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

VARIABLE = "SMI_MESH_MUTATION"

Edits = Mapping[str, Sequence[tuple[str, str]]]
"""Module → (before, after) in order."""


def edited(module: str, source: str, edits: Sequence[tuple[str, str]]) -> str:
    """The source with every edit made; raises ImportError for one that does not apply exactly once."""
    for before, after in edits:
        found = source.count(before)
        if found != 1:
            raise ImportError(
                f"mutation of {module}: {before!r} occurs {found} times in its source, not once"
            )
        source = source.replace(before, after)
    return source


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, edits: Sequence[tuple[str, str]]) -> None:
        super().__init__(name, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        return compile(edited(fullname, source, self._edits), self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, edits: Edits) -> None:
        self._edits = edits

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        edits = self._edits.get(name)
        if edits is None:
            return None
        for folder in sys.path if path is None else path:
            file = Path(folder, name.rpartition(".")[2] + ".py")
            if file.is_file():
                return spec_from_file_location(name, file, loader=_Loader(name, str(file), edits))
        return None


def install(text: str) -> None:
    """Make this process the mutant that `text` describes."""
    edits: dict[str, list[tuple[str, str]]] = {}
    for module, before, after in json.loads(text):
        edits.setdefault(module, []).append((before, after))
    sys.meta_path.insert(0, _Finder(edits))


if VARIABLE in os.environ:
    install(os.environ[VARIABLE])
