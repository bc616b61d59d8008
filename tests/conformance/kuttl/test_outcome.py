"""What a run of suites may be called, and its reports."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Xml
from typing import Any

import pytest

from conformance.kuttl.outcome import Outcome, StepResult, TestResult, write_json, write_junit

FINE = TestResult(
    "suite", "fine", (StepResult("0-install", "", 2, 1.0), StepResult("1-x", "", 1, 0.5)), "", 1.5
)
BAD = TestResult(
    "suite", "bad", (StepResult("0-install"), StepResult("1-x", 'not <so> & "\x1b"\nmore')), "", 2.0
)
LEFT = TestResult("other", "left", (StepResult("0-a"),), "namespace x is still there")
CUT = TestResult("suite", "cut", (StepResult("0-a"),), "", 1.0, interrupted=True)


def outcome(*results: TestResult, expected: int | None = None, **fields: Any) -> Outcome:
    return Outcome("smi", results, len(results) if expected is None else expected, 3.0, **fields)


@pytest.mark.parametrize(
    ("given", "code", "line"),
    [
        (outcome(FINE), 0, "1 passed, 0 failed"),
        (outcome(FINE, BAD), 1, "1 passed, 1 failed"),
        (outcome(LEFT), 1, "0 passed, 1 failed"),
        (outcome(FINE, CUT), 3, "1 passed, 0 failed, 1 not run"),
        (outcome(FINE, expected=3), 3, "1 passed, 0 failed, 2 not run"),
        (outcome(BAD, CUT, expected=3), 1, "0 passed, 1 failed, 2 not run"),
        (outcome(expected=1), 3, "0 passed, 0 failed, 1 not run"),
        (outcome(FINE, troubles=("command failed",)), 1, "1 passed, 0 failed"),
        (outcome(), 3, "0 passed, 0 failed"),
    ],
)
def test_only_a_whole_run_without_failures_passes(given: Outcome, code: int, line: str) -> None:
    assert (given.exit_code, given.last_line) == (code, line)


def test_junit_has_a_suite_for_each_directory_test_and_step() -> None:
    root = Xml.fromstring(write_junit(outcome(FINE, BAD, LEFT)))
    assert (root.get("tests"), root.get("failures")) == ("6", "2")
    assert [suite.get("name") for suite in root.findall("testsuite")] == ["other", "suite"]
    step = root.find("testsuite/testsuite[@name='bad']/testcase[@name='step 1-x']")
    assert step is not None
    assert step.get("classname") == "bad"
    failure = step.find("failure")
    assert failure is not None
    assert failure.get("message") == 'not <so> & ""'
    assert failure.text == 'not <so> & ""\nmore'
    setup = root.find("testsuite/testsuite[@name='left']/testcase[@name='setup']/failure")
    assert setup is not None


def test_a_report_by_test_has_one_case_each() -> None:
    report = json.loads(write_json(outcome(FINE, BAD), "test"))
    cases = report["testsuite"][0]["testcase"]
    assert [(case["name"], "failure" in case) for case in cases] == [("bad", True), ("fine", False)]
    assert cases[0]["failure"]["text"].startswith("step 1-x: not <so>")
    assert (report["tests"], report["failures"]) == (2, 1)


def test_an_unfinished_run_is_not_green_in_any_report() -> None:
    given = outcome(FINE, expected=2)
    assert json.loads(write_json(given))["failure"]["message"] == "not every test ran to its end"
    assert Xml.fromstring(write_junit(given)).find("failure") is not None
    assert Xml.fromstring(write_junit(outcome(FINE))).find("failure") is None
