"""What a run came to, as values and as the document that is published. Pure.

A run that was interrupted, or that left out cases of what the mesh claims, is `partial`, whatever passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from conformance.case import Case, Level
from conformance.features import FEATURES, Group

API_VERSION: Final = "conformance.smi-mesh.io/v1"
KIND: Final = "ConformanceReport"


class Outcome(StrEnum):
    """What a case came to."""

    PASSED = "passed"
    FAILED = "failed"
    """The mesh did something else than the case asks for."""
    ERROR = "error"
    """The cluster or the test application failed: no verdict on the mesh, and no pass either."""
    SKIPPED = "skipped"
    """The mesh does not claim it."""


class Verdict(StrEnum):
    """What the whole run says about the mesh."""

    PASS = "pass"
    FAIL = "fail"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Result:
    """One case's outcome; `message` says why it is not a pass."""

    case: Case
    source: str
    outcome: Outcome
    seconds: float = 0.0
    message: str = ""
    site: str = ""
    """The namespace it ran in."""

    @property
    def bad(self) -> bool:
        return self.outcome in (Outcome.FAILED, Outcome.ERROR)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as a whole."""

    results: tuple[Result, ...]
    expected: int
    """How many results a complete run of the suite has."""
    mesh: str
    claimed: frozenset[str]
    environment: Mapping[str, object] = field(default_factory=dict)
    reproduce: str = ""
    began: str = ""
    """RFC 3339."""
    seconds: float = 0.0
    interrupted: bool = False
    troubles: tuple[str, ...] = ()
    """What went wrong outside of cases, above all in cleaning up."""

    def count(self, *outcomes: Outcome) -> int:
        return sum(result.outcome in outcomes for result in self.results)

    @property
    def verdict(self) -> Verdict:
        if any(result.bad for result in self.results):
            return Verdict.FAIL
        ran = self.count(Outcome.PASSED)
        whole = len(self.results) == self.expected and not self.interrupted
        return Verdict.PASS if whole and ran else Verdict.PARTIAL

    @property
    def last_line(self) -> str:
        """`N passed, N failed, N skipped`."""
        failed = self.count(Outcome.FAILED, Outcome.ERROR)
        return f"{self.count(Outcome.PASSED)} passed, {failed} failed, {self.count(Outcome.SKIPPED)} skipped"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 partial (nothing failed, but not everything that is claimed ran)."""
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.PARTIAL: 3}[self.verdict]


def document(run: Run) -> dict[str, Any]:
    """The report as it is written to YAML; `report-schema.json` describes it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "specification": "SMI v0.6",
        "mesh": run.mesh,
        "began": run.began,
        "seconds": round(run.seconds, 1),
        "verdict": run.verdict.value,
        "complete": len(run.results) == run.expected and not run.interrupted,
        "counts": {outcome.value: run.count(outcome) for outcome in Outcome} | {"expected": run.expected},
        "environment": dict(run.environment),
        "reproduce": run.reproduce,
        "troubles": list(run.troubles),
        "groups": {group.value: _group(run, group) for group in Group},
        "cases": [_case(result) for result in run.results],
    }


def _group(run: Run, group: Group) -> dict[str, Any]:
    results = [result for result in run.results if result.case.group is group]
    names = [name for name, feature in FEATURES.items() if feature.group is group]
    return {
        "core": statistics(result for result in results if result.case.level is Level.CORE),
        "extended": statistics(result for result in results if result.case.level is Level.EXTENDED),
        "implementation-specific": statistics(
            result for result in results if result.case.level is Level.IMPLEMENTATION
        ),
        "supported": [name for name in names if name in run.claimed],
        "unsupported": [name for name in names if name not in run.claimed],
    }


def statistics(results: Iterable[Result]) -> dict[str, Any]:
    """Counts of one level, the names of what failed, and one word for it all."""
    listed = list(results)
    failed = [result.case.name for result in listed if result.bad]
    passed = sum(result.outcome is Outcome.PASSED for result in listed)
    skipped = sum(result.outcome is Outcome.SKIPPED for result in listed)
    word = "failure" if failed else "success" if passed and not skipped else "partial" if passed else "none"
    return {"result": word, "passed": passed, "failed": len(failed), "skipped": skipped, "failures": failed}


def _case(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "name": case.name,
        "group": case.group.value,
        "feature": case.feature,
        "level": case.level.value,
        "outcome": result.outcome.value,
        "seconds": round(result.seconds, 2),
        "message": result.message,
        "source": result.source,
        "rules": list(case.rules),
        "specification": [
            {
                "document": ref.document,
                "version": ref.version,
                "section": ref.section,
                "requirement": ref.requirement,
            }
            for ref in case.refs
        ],
    }


def slowest(results: Sequence[Result], count: int = 5) -> tuple[Result, ...]:
    """The cases that took longest."""
    return tuple(sorted(results, key=lambda result: -result.seconds)[:count])
