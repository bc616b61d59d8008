"""The report's arithmetic and its documents: what may be called a pass."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Xml
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
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
REPORTS = Path(__file__).parents[2] / "docs" / "reports"


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


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    text = json.loads((resources.files("conformance") / "report-schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


@pytest.mark.parametrize(
    "given",
    [run(PASSED, FAILED, SKIPPED, ERROR), run(), run(PASSED, interrupted=True), run(PASSED, expected=2)],
)
def test_the_yaml_report_is_what_the_schema_says(schema: jsonschema.Draft202012Validator, given: Run) -> None:
    schema.validate(yaml.safe_load(write_yaml(given)))


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.yaml")), ids=lambda path: path.name)
def test_what_was_published_is_what_the_schema_says(
    schema: jsonschema.Draft202012Validator, path: Path
) -> None:
    """A schema that changes needs a new version, as long as a report of the old one is about."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    schema.validate(found)
    assert len(found["cases"]) == sum(found["counts"][outcome.value] for outcome in Outcome)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "fine"),
        (("apiVersion",), "conformance.smi-mesh.io/v2"),
        (("counts", "passed"), -1),
        (("counts", "more"), 1),
        (("cases", 0, "outcome"), "maybe"),
        (("cases", 0, "level"), "some"),
        (("groups", "split", "core", "result"), "good"),
        (("groups", "other"), {}),
        (("troubles",), "none"),
    ],
)
def test_the_schema_refuses_what_is_not_a_report(
    schema: jsonschema.Draft202012Validator, path: tuple[Any, ...], value: object
) -> None:
    report = yaml.safe_load(write_yaml(run(PASSED, FAILED)))
    *way, last = path
    place = report
    for key in way:
        place = place[key]
    place[last] = value
    assert not schema.is_valid(report)


@pytest.mark.parametrize("field", ["counts", "cases", "verdict", "reproduce", "environment"])
def test_the_schema_misses_what_is_not_there(schema: jsonschema.Draft202012Validator, field: str) -> None:
    report = yaml.safe_load(write_yaml(run(PASSED)))
    del report[field]
    assert not schema.is_valid(report)


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
