"""Which requirement is held by which case, and with which result; as the page docs/spec-coverage.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from conformance.case import Case
from conformance.published import Published
from conformance.report import Outcome
from conformance.requirements import Catalogue, DocumentList, Requirement

_RULE: Final = re.compile(r"^### ([SR]\d+)\. (.+)$", re.MULTILINE)
_MARKS: Final = {
    Outcome.PASSED: "✔",
    Outcome.FAILED: "✘",
    Outcome.ERROR: "✘",
    Outcome.SKIPPED: "–",
}
_ABOUT: Final = (
    "Made by `make coverage` from `conformance/requirements.yaml`, the cases and our newest report; do "
    "not edit. What SMI v0.6 asks for, in our words, version by version; which "
    "[conformance cases](conformance.md) hold a mesh to it; and what came of them at smi-mesh."
)
_LEGEND: Final = "✔ passed, ✘ failed, – not claimed, ? newer than the report."
_ABOUT_RULES: Final = (
    "[Semantics](semantics.md) has them in full. Cases that rest on nothing else are "
    "implementation-specific: other meshes decide otherwise."
)
_FORCES: Final = {"must": "must", "should": "should", "example": "example", "open": "left open"}


def rules(semantics: str) -> dict[str, str]:
    """The rules of docs/semantics.md by number, in numerical order."""
    found = dict(_RULE.findall(semantics))
    return dict(sorted(found.items(), key=lambda item: (item[0][0] != "S", int(item[0][1:]))))


def page(catalogue: Catalogue, cases: Sequence[Case], report: Published, semantics: str) -> str:
    """The whole page."""
    parts = [
        "# Specification coverage",
        "",
        _ABOUT,
        "",
        f"Report: {report.mesh}, {report.began[:10]}, verdict {report.verdict}. {_LEGEND}",
        "",
        *_summary(catalogue, report),
        *(line for document in catalogue.documents for line in _document(document, report)),
        *_untested(catalogue),
        *_rules(cases, report, rules(semantics)),
    ]
    return "\n".join(parts) + "\n"


def _mark(name: str, report: Published) -> str:
    outcome = report.outcomes.get(name)
    return f"{'?' if outcome is None else _MARKS[outcome]} {name}"


def _marks(names: Iterable[str], report: Published) -> str:
    return "<br>".join(_mark(name, report) for name in names)


def _table(*rows: Sequence[str]) -> list[str]:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines] + [""]


def _summary(catalogue: Catalogue, report: Published) -> list[str]:
    rows: list[Sequence[str]] = []
    for document in catalogue.documents:
        states = [state(requirement, report) for requirement in document.requirements]
        counts = [str(states.count(name)) for name in ("passed", "skipped", "other", "untested")]
        rows.append((_title(document), ", ".join(document.versions), str(len(states)), *counts))
    head = (
        "Document",
        "Versions",
        "Requirements",
        "all cases pass",
        "not claimed",
        "failed or newer",
        "no case",
    )
    return _table(head, *rows)


def state(requirement: Requirement, report: Published) -> str:
    """`passed`: every case did; `skipped`: some are not claimed; `untested`: no case; else `other`."""
    found = {report.outcomes.get(name) for name in requirement.cases}
    if not found:
        return "untested"
    if found <= {Outcome.PASSED, Outcome.SKIPPED}:
        return "skipped" if Outcome.SKIPPED in found else "passed"
    return "other"


def _title(document: DocumentList) -> str:
    words = document.name.replace("-", " ").title().replace(" ", "")
    return {"TrafficAccess": "Traffic Access Control"}.get(words, document.name.replace("-", " ").title())


def _document(document: DocumentList, report: Published) -> list[str]:
    every = len(document.versions)
    rows = [
        (
            requirement.section,
            ", ".join(requirement.versions) if requirement.versions and every > 1 else "all",
            _FORCES[requirement.force],
            requirement.says,
            _marks(requirement.cases, report) or "none",
        )
        for requirement in document.requirements
    ]
    return [
        f"## {_title(document)}",
        "",
        *_table(("Section", "Versions", "Force", "Requirement", "Cases"), *rows),
    ]


def _untested(catalogue: Catalogue) -> list[str]:
    rows = [
        (_title(document), requirement.says, requirement.reason)
        for document in catalogue.documents
        for requirement in document.requirements
        if not requirement.cases
    ]
    return ["## Requirements without a case", "", *_table(("Document", "Requirement", "Why"), *rows)]


def _rules(cases: Sequence[Case], report: Published, known: Mapping[str, str]) -> list[str]:
    """Where the documents are silent: our rules, with the cases that hold us to them."""
    rows = [
        (number, text, _marks((case.name for case in cases if number in case.rules), report) or "none")
        for number, text in known.items()
    ]
    return [
        "## Rules where the specification is silent",
        "",
        _ABOUT_RULES,
        "",
        *_table(("Rule", "In short", "Cases"), *rows),
    ]
