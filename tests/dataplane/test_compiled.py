"""The compiled form is looked for, and never run when it is of other sources."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataplane import compiled


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tiny source tree with a compiled form that claims to be of it."""
    for name in ("smi/names.py", "dataplane/core/plan.py", "dataplane/core/outcome.py", "dataplane/main.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"NAME = {name!r}\n")
    compiled.compiled_tree(tmp_path).mkdir(parents=True)
    (compiled.compiled_tree(tmp_path) / "STAMP").write_text(compiled.digest(tmp_path))
    return tmp_path


def test_the_tree_of_the_present_sources_goes_first(tree: Path) -> None:
    assert compiled.root(tree) == tree / "build" / "compiled"
    assert compiled.search_path(tree).split(os.pathsep) == [str(tree / "build/compiled"), str(tree)]


@pytest.mark.parametrize("name", ["smi/names.py", "dataplane/main.py"])
def test_an_edited_source_retires_the_tree(tree: Path, name: str) -> None:
    (tree / name).write_text("NAME = 'edited'\n")
    assert compiled.root(tree) is None
    assert compiled.search_path(tree) == str(tree)


def test_a_new_source_retires_the_tree(tree: Path) -> None:
    (tree / "smi" / "more.py").write_text("")
    assert compiled.root(tree) is None


def test_no_tree_no_path(tmp_path: Path) -> None:
    assert compiled.root(tmp_path) is None


def test_what_cannot_be_compiled_is_left_out(tree: Path) -> None:
    assert compiled.hot_modules(tree) == ["dataplane/core/plan.py", "smi/names.py"]


def test_every_name_in_the_tables_is_there() -> None:
    for glob in compiled.MODULES:
        assert list(compiled.SOURCES.glob(glob)), glob
    for name in compiled.LEFT_OUT:
        assert (compiled.SOURCES / name).exists(), name


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiled.lacking() == "there is no C compiler"
