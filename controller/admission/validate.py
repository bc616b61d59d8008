"""What admission says to an SMI object: pure, the findings of `smi.lower` as an answer.

An ERROR refuses the object, anything milder is shown to whoever applied it as a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from smi.lower import validate as findings_of

from smi.findings import Finding, Severity

_LONGEST_WARNING: Final = 256  # longer ones may be cut by the API server
_MOST_WARNINGS: Final = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    message: str = ""
    """Why it is refused."""
    warnings: tuple[str, ...] = ()


def validate(operation: str, obj: dict[str, Any] | None) -> Verdict:
    """Judge one object as it would be stored; a DELETE is always allowed."""
    if operation == "DELETE" or obj is None:
        return Verdict(allowed=True)
    return verdict(findings_of(obj))


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Findings → allowed or not, with every message."""
    ordered = tuple(findings)
    errors = [_text(finding) for finding in ordered if finding.severity is Severity.ERROR]
    milder = [_text(finding) for finding in ordered if finding.severity is Severity.WARNING]
    warnings = tuple(text[:_LONGEST_WARNING] for text in milder[:_MOST_WARNINGS])
    return Verdict(not errors, "; ".join(errors), warnings)


def _text(finding: Finding) -> str:
    return f"{finding.field}: {finding.message}" if finding.field else finding.message
