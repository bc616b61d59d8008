"""Conditions as they are to be written (S31)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.compile.conditions import Condition, ObjectStatus
from controller.status.conditions import desired, differ, programmed
from smi.findings import ObjectRef

REF = ObjectRef("split.smi-spec.io", "TrafficSplit", "shop", "canary")
ACCEPTED = Condition("Accepted", True, "Accepted", "")
RUNS = programmed(2, 2)
THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def status(*conditions: Condition, generation: int = 1) -> ObjectStatus:
    return ObjectStatus(REF, "uid", generation, conditions)


def test_the_first_writing() -> None:
    first = desired(status(ACCEPTED), RUNS, (), THEN)
    assert first == [
        {
            "type": "Accepted",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": THEN,
            "reason": "Accepted",
            "message": "",
        },
        {
            "type": "Programmed",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": THEN,
            "reason": "Programmed",
            "message": "2 of 2 proxies run this generation",
        },
    ]
    assert not differ(desired(status(ACCEPTED), RUNS, first, NOW), first)


def test_transition_time_moves_with_the_status_only() -> None:
    first = desired(status(ACCEPTED), RUNS, (), THEN)
    later = desired(status(ACCEPTED, generation=2), programmed(1, 2), first, NOW)
    times = {one["type"]: (one["lastTransitionTime"], one["observedGeneration"]) for one in later}
    assert times == {"Accepted": (THEN, 2), "Programmed": (NOW, 2)}


def test_others_conditions_stay_and_our_outdated_ones_go() -> None:
    conflicted = Condition("Conflicted", True, "Conflicted", "an older one is effective")
    first = desired(status(ACCEPTED, conflicted), RUNS, ({"type": "Promoted", "status": "True"},), THEN)
    later = desired(status(ACCEPTED), RUNS, first, NOW)
    assert [one["type"] for one in later] == ["Accepted", "Programmed", "Promoted"]


def test_what_is_not_known_yet_stays_as_it_is() -> None:
    first = desired(status(ACCEPTED), RUNS, (), THEN)
    assert not differ(desired(status(ACCEPTED), None, first, NOW), first)


@pytest.mark.parametrize(
    ("counts", "holds", "reason", "message"),
    [
        ((0, 0), True, "NoProxies", "no proxy"),
        ((1, 3), False, "Pending", "1 of 3"),
        ((3, 3), True, "Programmed", "3 of 3"),
        (
            (2, 3, ("shop/a: no",)),
            False,
            "Refused",
            "2 of 3 proxies run this generation; refused by shop/a: no",
        ),
        ((0, 5, tuple("abcde")), False, "Refused", "a; b; c and 2 more"),
    ],
)
def test_programmed(counts: Any, holds: bool, reason: str, message: str) -> None:
    found = programmed(*counts)
    assert (found.status, found.reason) == (holds, reason)
    assert message in found.message
