"""The report's arithmetic and its documents: what may be called a pass."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Xml
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
import yaml

from conformance.case import Case, Level
from conformance.render import write_html, write_junit, write_yaml
from conformance.report import Outcome, Result, Run, Verdict, document


async def nothing(_: Any) -> None:
    return None


def case(name: str, level: Level = Level.CORE, feature: str = "split-weights") -> Case:
    return Case(name, feature, level, nothing, rules=("S14",))


def result(name: str, outcome: Outcome, message: str = "", **case_fields: Any) -> Result:
    return Result(case(name, **case_fields), f"{name}.py", outcome, 1.0, message)


def run(*results: Result, expected: int | None = None, interrupted: bool = False) -> Run:
    count = len(results) if expected is None else expected
    return Run(results, count, "some-mesh", frozenset({"split-weights"}), interrupted=interrupted)


PASSED = result("a", Outcome.PASSED)
FAILED = result("b", Outcome.FAILED, "saw <3> & \x1b more")
SKIPPED = result("c", Outcome.SKIPPED, "not claimed")
ERROR = result("d", Outcome.ERROR, "no pod")


@pytest.mark.parametrize(
    ("given", "verdict", "code"),
    [
        (run(PASSED), Verdict.PASS, 0),
        (run(PASSED, SKIPPED), Verdict.PASS, 0),
        (run(PASSED, FAILED), Verdict.FAIL, 1),
        (run(PASSED, ERROR), Verdict.FAIL, 1),
        (run(PASSED, expected=2), Verdict.PARTIAL, 3),
        (run(PASSED, interrupted=True), Verdict.PARTIAL, 3),
        (run(FAILED, interrupted=True), Verdict.FAIL, 1),
        (run(SKIPPED), Verdict.PARTIAL, 3),
        (run(), Verdict.PARTIAL, 3),
    ],
)
def test_only_a_whole_run_without_failures_passes(given: Run, verdict: Verdict, code: int) -> None:
    assert (given.verdict, given.exit_code) == (verdict, code)
    assert document(given)["verdict"] == verdict.value


def test_the_last_line_counts_errors_as_failures() -> None:
    assert run(PASSED, FAILED, ERROR, SKIPPED).last_line == "1 passed, 2 failed, 1 skipped"


def test_groups_count_by_level_and_name_what_is_not_supported() -> None:
    extended = result("e", Outcome.PASSED, level=Level.EXTENDED)
    other = result("f", Outcome.FAILED, feature="access-http")
    groups = document(run(PASSED, SKIPPED, extended, other))["groups"]
    assert groups["split"]["core"]["result"] == "partial"
    assert groups["split"]["extended"]["result"] == "success"
    assert groups["access"]["core"] == {
        "result": "failure", "passed": 0, "failed": 1, "skipped": 0, "failures": ["f"],
    }  # fmt: skip
    assert groups["metrics"]["core"]["result"] == "none"
    assert groups["split"]["supported"] == ["split-weights"]
    assert "split-tcp" in groups["split"]["unsupported"]


def check(value: Any, schema: Any, root: Any) -> None:
    """The part of JSON Schema that the report's schema uses."""
    if "$ref" in schema:
        return check(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        assert value == schema["const"]
    if "enum" in schema:
        assert value in schema["enum"]
    types = {
        "object": dict, "array": list, "string": str, "integer": int, "number": int | float, "boolean": bool,
    }  # fmt: skip
    if "type" in schema:
        assert isinstance(value, types[schema["type"]]), (value, schema["type"])
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value)
        assert set(value) <= set(schema["properties"])
        for key, part in value.items():
            check(part, schema["properties"][key], root)
    if isinstance(value, list) and "items" in schema:
        for part in value:
            check(part, schema["items"], root)
    return None


def test_the_yaml_report_is_what_the_schema_says() -> None:
    schema = json.loads((resources.files("conformance") / "report-schema.json").read_text())
    check(yaml.safe_load(write_yaml(run(PASSED, FAILED, SKIPPED, ERROR))), schema, schema)


def test_junit_is_well_formed_and_counts() -> None:
    root = Xml.fromstring(write_junit(run(PASSED, FAILED, SKIPPED, ERROR)))
    split = root.find("testsuite[@name='split']")
    assert split is not None
    assert [split.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]


def test_an_interrupted_run_is_not_green_in_junit() -> None:
    root = Xml.fromstring(write_junit(run(PASSED, interrupted=True)))
    assert root.find("testsuite[@name='run']/testcase/error") is not None


def test_html_escapes_what_was_seen() -> None:
    page = write_html(replace(run(PASSED, FAILED), troubles=("<b>",)))
    assert "saw &lt;3&gt; &amp;" in page
    assert "<b>" not in page
