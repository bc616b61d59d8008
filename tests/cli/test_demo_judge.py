"""The demo's judgement, on answers recorded from the application's control port."""

from __future__ import annotations

from typing import Any

import pytest

from cli.demo.judge import Tally, judge_ask, judge_count, judge_dial, judge_live, passed, shares
from cli.demo.story import Ask, Count, Dial

ALLOWED: dict[str, Any] = {
    "status": 200,
    "server": "api-v1",
    "seconds": 0.002,
    "error": None,
    "detail": "",
    "headers": {"x-served-by": "api-v1", "content-type": "application/json"},
    "body": '{"service": "api-v1", "items": ["lamp"]}\n',
}
DENIED: dict[str, Any] = {
    "status": 403,
    "server": None,
    "seconds": 0.001,
    "error": None,
    "detail": "",
    "headers": {"x-smi-mesh-denial": "route-not-allowed; id=0123456789ab"},
    "body": "denied",
}
FAILED: dict[str, Any] = {
    "status": None,
    "error": "reset",
    "detail": "Connection reset by peer",
    "headers": {},
}


def test_an_answer_as_announced() -> None:
    verdict = judge_ask(Ask("web", "GET", "/items", 200), ALLOWED)
    assert verdict.ok
    assert verdict.observed == "200 from api-v1"


def test_a_refusal_needs_its_reason() -> None:
    assert judge_ask(Ask("web", "POST", "/items", 403, "route-not-allowed"), DENIED).ok
    assert not judge_ask(Ask("web", "POST", "/items", 403, "no-traffic-target"), DENIED).ok
    # the application's own 403 is not the mesh's refusal
    own = {**DENIED, "headers": {"x-served-by": "api-v1"}}
    assert not judge_ask(Ask("web", "POST", "/items", 403, "route-not-allowed"), own).ok


@pytest.mark.parametrize("result", [DENIED, FAILED, {**ALLOWED, "status": 503}])
def test_anything_else_is_not_as_announced(result: dict[str, Any]) -> None:
    verdict = judge_ask(Ask("web", "GET", "/items", 200), result)
    assert not verdict.ok
    assert verdict.observed


@pytest.mark.parametrize(
    ("opens", "result", "ok"),
    [
        (True, {"received": ["db ready", "db 1"], "error": None}, True),
        (True, {"received": [], "error": "reset"}, False),
        (True, {"received": ["db ready"], "error": "timeout"}, False),
        (False, {"received": [], "error": "reset"}, True),
        (False, {"received": [], "error": "timeout"}, False),
        (False, {"received": ["db ready"], "error": "reset"}, False),
        (False, {"received": ["db ready", "db 1"], "error": None}, False),
    ],
)
def test_tcp_is_answered_or_reset(opens: bool, result: dict[str, Any], ok: bool) -> None:
    assert judge_dial(Dial("web", opens=opens), result).ok is ok


NINETY = Count((("api-v1", 90), ("api-v2", 10)), picks=500)


def batch(servers: dict[str, int], **more: Any) -> dict[str, Any]:
    total = sum(servers.values())
    return {"total": total, "statuses": {"200": total}, "servers": servers, "errors": {}, **more}


def test_shares_are_added_up_and_judged() -> None:
    tally = Tally()
    for _ in range(20):
        tally.add(batch({"api-v1": 22, "api-v2": 3}))
    assert tally.sent == 500
    verdict = judge_count(NINETY, tally)
    assert verdict.ok
    assert verdict.observed == "api-v1 440, api-v2 60"
    assert verdict.exchanges == 500


@pytest.mark.parametrize(
    "summary",
    [
        batch({"api-v1": 250, "api-v2": 250}),
        batch({"api-v1": 450, "api-v2": 49, "stranger": 1}),
        batch({"api-v1": 450, "api-v2": 49}, total=500, errors={"reset": 1}),
        batch({"api-v1": 450, "api-v2": 49}, total=500, statuses={"200": 499, "503": 1}),
        batch({"api-v1": 9, "api-v2": 1}),
        batch({}),
    ],
)
def test_a_share_that_is_off_fails(summary: dict[str, Any]) -> None:
    tally = Tally()
    tally.add(summary)
    assert not judge_count(NINETY, tally).ok


def test_the_table_can_be_drawn_before_the_first_answer() -> None:
    assert [share.count for share in shares(NINETY, Tally())] == [0, 0]


def test_live_in_time() -> None:
    assert judge_live("split", 0.1, None) is None
    assert (verdict := judge_live("split", 0.499, 0.5)) is not None
    assert verdict.ok
    assert (verdict := judge_live("split", 0.5, 0.5)) is not None
    assert not verdict.ok
    for limit in (0.5, None):
        assert (verdict := judge_live("split", None, limit)) is not None
        assert not verdict.ok
        assert verdict.observed == "never"


def test_no_checks_is_no_success() -> None:
    assert not passed([])
    assert passed([judge_dial(Dial("web", opens=False), {"received": [], "error": "reset"})])
