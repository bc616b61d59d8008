"""Findings → status conditions (S31), one set per SMI object.

`Programmed` is missing here: it counts proxies, which the compiler does not know; the hub adds it
from `ObjectStatus.pods` and `ObjectStatus.destinations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from controller.compile.world import SmiObject
from smi.findings import Finding, ObjectRef, Reason, Severity

ACCEPTED: Final = "Accepted"
RESOLVED_REFS: Final = "ResolvedRefs"
BACKENDS_RESOLVED: Final = "BackendsResolved"
CONFLICTED: Final = "Conflicted"


@dataclass(frozen=True, slots=True)
class Condition:
    """A metav1.Condition without its times and generation."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """What the author of one SMI object is told, and which proxies its generation concerns."""

    ref: ObjectRef
    uid: str
    generation: int
    conditions: tuple[Condition, ...]
    pods: frozenset[str] = frozenset()
    """Meshed pods whose `inbound` it shapes."""
    destinations: frozenset[str] = frozenset()
    """Destination keys it shapes: it concerns every proxy subscribed to one of them."""


_REFUSED: Final = frozenset(
    {
        Reason.INVALID,
        Reason.INVALID_WEIGHT,
        Reason.INVALID_PATTERN,
        Reason.NO_RULES,
        Reason.NO_SOURCES,
        Reason.WRONG_NAMESPACE,
        Reason.UNKNOWN_KIND,
        Reason.FOREIGN_IDENTITY,
    }
)
"""The object, or a part of it, has no effect."""
_UNRESOLVED: Final = frozenset(
    {Reason.ROUTE_NOT_FOUND, Reason.MATCH_NOT_FOUND, Reason.IDENTITY_NOT_FOUND, Reason.ROOT_NOT_FOUND}
)
_BACKENDS: Final = frozenset({Reason.BACKEND_NOT_FOUND, Reason.PORT_MISMATCH})
_REFUSED_BY_KIND: Final[Mapping[str, frozenset[Reason]]] = {
    # S22: a missing reference of a TrafficTarget is a permission its author believes in and nobody has.
    "TrafficTarget": _REFUSED | _UNRESOLVED,
}
_ORDER: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def status_of(
    known: SmiObject, findings: Iterable[Finding], pods: frozenset[str], keys: frozenset[str]
) -> ObjectStatus:
    """The status of one object out of the findings about it."""
    ordered = sorted(findings, key=lambda finding: (_ORDER[finding.severity], finding))
    return ObjectStatus(
        known.ref, known.uid, known.generation, tuple(_conditions(known, ordered)), pods, keys
    )


def _conditions(known: SmiObject, findings: list[Finding]) -> list[Condition]:
    refused = _REFUSED_BY_KIND.get(known.ref.kind, _REFUSED)
    conditions = [_accepted(findings, refused, readable=known.readable)]
    if not known.readable:
        return conditions  # what it refers to is as unknown as the rest of it
    conditions.append(_holds(RESOLVED_REFS, "Resolved", findings, _UNRESOLVED))
    if known.ref.kind == "TrafficSplit":
        conditions.append(_holds(BACKENDS_RESOLVED, "Resolved", findings, _BACKENDS))
    conflicts = [finding for finding in findings if finding.reason is Reason.CONFLICTED]
    if conflicts:
        conditions.append(Condition(CONFLICTED, True, conflicts[0].reason, _message(conflicts)))
    return conditions


def _accepted(findings: list[Finding], refused: frozenset[Reason], *, readable: bool) -> Condition:
    against = [finding for finding in findings if finding.reason in refused]
    if against:
        return Condition(ACCEPTED, False, against[0].reason, _message(against))
    if not readable:
        return Condition(ACCEPTED, False, Reason.INVALID, "the object cannot be read")
    remarks = [
        finding for finding in findings if finding.reason not in _UNRESOLVED | _BACKENDS | {Reason.CONFLICTED}
    ]
    if remarks:
        return Condition(ACCEPTED, True, remarks[0].reason, _message(remarks))
    return Condition(ACCEPTED, True, ACCEPTED, "")


def _holds(kind: str, reason: str, findings: list[Finding], against: frozenset[Reason]) -> Condition:
    broken = [finding for finding in findings if finding.reason in against]
    if broken:
        return Condition(kind, False, broken[0].reason, _message(broken))
    return Condition(kind, True, reason, "")


_LONGEST_MESSAGE: Final = 32_768
"""metav1.Condition's own limit, in characters."""


def _message(findings: list[Finding]) -> str:
    said = (f"{known.field}: {known.message}" if known.field else known.message for known in findings)
    return "; ".join(said)[:_LONGEST_MESSAGE]
