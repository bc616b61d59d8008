"""Findings become conditions (S31)."""

from __future__ import annotations

from controller.compile.conditions import Condition, status_of
from controller.compile.world import SmiObject
from smi.findings import Finding, ObjectRef, Reason, Severity

REF = ObjectRef("split.smi-spec.io", "TrafficSplit", "shop", "s")
KNOWN = SmiObject(REF, "uid", 3, readable=True)


def finding(reason: Reason, message: str, field: str = "", severity: Severity = Severity.WARNING) -> Finding:
    return Finding(REF, severity, reason, message, field)


def conditions(*findings: Finding, known: SmiObject = KNOWN) -> dict[str, Condition]:
    status = status_of(known, findings, frozenset(), frozenset())
    assert (status.ref, status.uid, status.generation) == (REF, "uid", 3)
    return {condition.type: condition for condition in status.conditions}


def test_nothing_to_say() -> None:
    assert conditions() == {
        "Accepted": Condition("Accepted", True, "Accepted", ""),
        "ResolvedRefs": Condition("ResolvedRefs", True, "Resolved", ""),
        "BackendsResolved": Condition("BackendsResolved", True, "Resolved", ""),
    }


def test_errors_come_before_warnings_and_fields_are_named() -> None:
    found = conditions(
        finding(Reason.INVALID, "a method nobody can send", "spec.a"),
        finding(Reason.INVALID_PATTERN, "a bad pattern", "spec.z", Severity.ERROR),
    )
    message = "spec.z: a bad pattern; spec.a: a method nobody can send"
    assert found["Accepted"] == Condition("Accepted", False, "InvalidPattern", message)


def test_each_condition_says_its_own() -> None:
    found = conditions(
        finding(Reason.PORT_MISMATCH, "port"),
        finding(Reason.ROUTE_NOT_FOUND, "route"),
        finding(Reason.CONFLICTED, "older"),
    )
    assert found["Accepted"].status
    assert found["BackendsResolved"] == Condition("BackendsResolved", False, "PortMismatch", "port")
    assert found["ResolvedRefs"] == Condition("ResolvedRefs", False, "RouteNotFound", "route")
    assert found["Conflicted"] == Condition("Conflicted", True, "Conflicted", "older")


def test_an_unreadable_object_is_only_refused() -> None:
    unreadable = SmiObject(REF, "uid", 3, readable=False)
    assert list(conditions(known=unreadable)) == ["Accepted"]
    assert not conditions(known=unreadable)["Accepted"].status


def test_a_message_keeps_to_kubernetes_limit() -> None:
    many = [finding(Reason.BACKEND_NOT_FOUND, f"{number} {'x' * 90}") for number in range(1000)]
    assert len(conditions(*many)["BackendsResolved"].message) == 32_768
