"""What a run of suites came to, and its reports: JUnit XML and JSON in KUTTL's shape. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.sax.saxutils import escape as xml_escape
from xml.sax.saxutils import quoteattr

Granularity = Literal["step", "test"]


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step; `failure` is empty when it passed."""

    id: str
    failure: str = ""
    assertions: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test. `trouble` is a failure outside of its steps: no namespace, or something was left behind."""

    __test__ = False  # not a class of pytest's
    suite: str
    name: str
    steps: tuple[StepResult, ...] = ()
    trouble: str = ""
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        return not self.trouble and not self.interrupted and not any(step.failure for step in self.steps)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole run."""

    name: str
    results: tuple[TestResult, ...]
    expected: int
    """How many tests were to be run."""
    seconds: float = 0.0
    troubles: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether every test that was asked for ran to its end."""
        return len(self.results) == self.expected and not any(result.interrupted for result in self.results)

    @property
    def last_line(self) -> str:
        """`N passed, N failed`, and how many did not run."""
        passed = sum(result.passed for result in self.results)
        failed = sum(not result.passed and not result.interrupted for result in self.results)
        rest = self.expected - passed - failed
        return f"{passed} passed, {failed} failed" + (f", {rest} not run" if rest else "")

    @property
    def exit_code(self) -> int:
        """0 everything passed, 1 something failed, 3 nothing failed but not everything ran."""
        if self.troubles or any(not result.passed and not result.interrupted for result in self.results):
            return 1
        return 0 if self.complete and self.results else 3


def tree(outcome: Outcome, granularity: Granularity = "step") -> dict[str, Any]:
    """The report as KUTTL's JSON has it: testsuites > testsuite per directory > test > step."""
    names = sorted({result.suite for result in outcome.results})
    suites = [_suite(name, outcome, granularity) for name in names]
    report: dict[str, Any] = {"name": outcome.name, **_sum(suites), "time": f"{outcome.seconds:.3f}"}
    troubles = list(outcome.troubles)
    if not outcome.complete:
        troubles.append("not every test ran to its end")
    if troubles:
        report["failure"] = {"message": "; ".join(troubles)}
    return {**report, "testsuite": suites}


def _suite(name: str, outcome: Outcome, granularity: Granularity) -> dict[str, Any]:
    results = sorted((r for r in outcome.results if r.suite == name), key=lambda result: result.name)
    seconds = {"time": f"{sum(result.seconds for result in results):.3f}", "name": name}
    if granularity == "test":
        cases = [_whole(result) for result in results]
        failures = sum("failure" in case for case in cases)
        return {"tests": len(cases), "failures": failures, **seconds, "testcase": cases}
    parts = [_test(result) for result in results]
    return {**_sum(parts), **seconds, "testsuite": parts}


def _sum(parts: list[dict[str, Any]]) -> dict[str, int]:
    return {key: sum(part[key] for part in parts) for key in ("tests", "failures")}


def _test(result: TestResult) -> dict[str, Any]:
    cases = [
        _case(result.name, f"step {step.id}", step.seconds, step.assertions, step.failure)
        for step in result.steps
    ]
    if result.trouble or result.interrupted:
        cases.append(_case(result.name, "setup", 0.0, 0, result.trouble or "interrupted"))
    failures = sum("failure" in case for case in cases)
    numbers = {"tests": len(cases), "failures": failures}
    return {**numbers, "time": f"{result.seconds:.3f}", "name": result.name, "testcase": cases}


def _whole(result: TestResult) -> dict[str, Any]:
    failures = [f"step {step.id}: {step.failure}" for step in result.steps if step.failure]
    failures += [result.trouble] if result.trouble else []
    failures += ["interrupted"] if result.interrupted else []
    assertions = sum(step.assertions for step in result.steps)
    return _case(result.suite, result.name, result.seconds, assertions, "\n".join(failures))


def _case(parent: str, name: str, seconds: float, assertions: int, failure: str) -> dict[str, Any]:
    case: dict[str, Any] = {
        "classname": parent, "name": name, "time": f"{seconds:.3f}", "assertions": assertions
    }  # fmt: skip
    if failure:
        case["failure"] = {"text": failure, "message": failure.partition("\n")[0][:200]}
    return case


def write_json(outcome: Outcome, granularity: Granularity = "step") -> str:
    """The report as JSON."""
    return json.dumps(tree(outcome, granularity), indent=2) + "\n"


def write_junit(outcome: Outcome, granularity: Granularity = "step") -> str:
    """The report as JUnit XML."""
    body = _xml("testsuites", tree(outcome, granularity), 0)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'


def _xml(tag: str, node: Mapping[str, Any], depth: int) -> str:
    pad = "  " * depth
    attributes = "".join(
        f" {key}={quoteattr(_clean(str(value)))}"
        for key, value in node.items()
        if isinstance(value, str | int)
    )
    inner = "".join(
        _xml(key, part, depth + 1)
        for key in ("failure", "testcase", "testsuite")
        for part in ([node[key]] if isinstance(node.get(key), dict) else node.get(key, []))
    )
    if tag == "failure":
        text = xml_escape(_clean(str(node.get("text", node["message"]))))
        return f"{pad}<failure message={quoteattr(_clean(node['message']))}>{text}</failure>\n"
    return f"{pad}<{tag}{attributes}>\n{inner}{pad}</{tag}>\n" if inner else f"{pad}<{tag}{attributes}/>\n"


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return "".join(character for character in text if character in "\n\t" or ord(character) >= 32)
