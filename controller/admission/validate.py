"""What admission says to an SMI object: pure, the findings of `smi.lower` as an answer.

An ERROR refuses the object, anything milder is shown to whoever applied it as a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from smi.findings import Finding, Severity
from smi.lower import validate as findings_of

_LONGEST_WARNING: Final = 256  # longer ones may be cut by the API server
_MOST_WARNINGS: Final = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    message: str = ""
    """Why it is refused."""
    warnings: tuple[str, ...] = ()


def validate(operation: str, obj: object, *, trust_domain: str, cluster_domain: str) -> Verdict:
    """Judge one object as it would be stored; a DELETE is always allowed."""
    if operation == "DELETE":
        return Verdict(allowed=True)
    if not isinstance(obj, dict):
        return Verdict(allowed=False, message="the request holds no object")
    return verdict(findings_of(obj, trust_domain=trust_domain, cluster_domain=cluster_domain))


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Findings → allowed or not, with every message."""
    ordered = tuple(findings)
    errors = [_text(finding) for finding in ordered if finding.severity is Severity.ERROR]
    milder = [_text(finding) for finding in ordered if finding.severity is Severity.WARNING]
    warnings = tuple(text[:_LONGEST_WARNING] for text in milder[:_MOST_WARNINGS])
    return Verdict(not errors, "; ".join(errors), warnings)


def _text(finding: Finding) -> str:
    return f"{finding.field}: {finding.message}" if finding.field else finding.message
