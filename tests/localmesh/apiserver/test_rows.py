"""docs/kubernetes-api.md names a test for every requirement of clients; here it is seen that they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "kubernetes-api.md"
MUST = {*range(1, 27), *range(28, 37)}
"""Rows that kubectl, client-go's informers, Flagger or kopf must have, or that are served anyway. 27, the old
form of definitions, is for one test suite, which the conformance runner brings it to.
"""


def rows() -> dict[int, list[str]]:
    """The tests that hold each requirement."""
    found: dict[int, list[str]] = {}
    for numbers, _, held in re.findall(r"^\| ([\d, ]+) \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE):
        for number in numbers.split(","):
            found[int(number)] = re.findall(r"`(test_[^`]+)`", held)
    return found


def test_every_requirement_names_tests_that_exist() -> None:
    assert rows().keys() == MUST
    for number, tests in rows().items():
        assert tests, f"row {number} names no test"
        for test in tests:
            name, _, function = test.partition("::")
            paths = list((ROOT / "tests").rglob(name))
            defined = {
                node.name
                for path in paths
                for node in ast.parse(path.read_text()).body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert paths, f"row {number}: there is no {name}"
            assert function in defined or not function, f"row {number}: {name} has no {function}"
