"""The answers the proxy makes itself."""

from __future__ import annotations

import pytest

from dataplane.core.outcome import LOST, UNPROCESSED, Outcome, failed, malformed, refused, render
from smi.policy.access import Denial, DenialReason

DENIAL = Denial(DenialReason.ROUTE_NOT_ALLOWED, "0123456789ab", "no TrafficTarget allows it", ("shop/a: no",))


def test_a_denial_names_its_reason_and_id() -> None:
    text = render(refused(DENIAL), close=False)
    assert text == (
        b"HTTP/1.1 403 Forbidden\r\nx-smi-mesh-denial: route-not-allowed; id=0123456789ab\r\n"
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: 48\r\n\r\n"
        b"smi-mesh: no TrafficTarget allows it\nshop/a: no\n"
    )


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_an_answer(outcome: Outcome) -> None:
    head, _, body = render(failed(outcome), close=True).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % outcome.status)
    assert f"x-smi-mesh-reason: {outcome.reason}\r\n".encode() in head
    assert b"\r\nconnection: close" in head
    assert b"content-length: %d" % len(body) in head
    assert outcome.text.encode() in body


def test_reasons_are_distinct() -> None:
    reasons = [outcome.reason for outcome in Outcome]
    assert len(set(reasons)) == len(reasons)
    assert set(reasons) >= UNPROCESSED | LOST


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "bad-request"), (431, "head-too-large"), (501, "not-implemented"), (505, "version")],
)
def test_malformed_requests_end_the_connection(status: int, reason: str) -> None:
    reply = malformed(status, "no host")
    assert (reply.status, reply.reason, reply.close) == (status, reason, True)


def test_forms_of_an_answer() -> None:
    reply = failed(Outcome.NO_BACKEND, "none left")
    whole = render(reply, close=False)
    assert render(reply, close=False, head_only=True) == whole.partition(b"smi-mesh:")[0]
    assert b"connection:" not in whole
    assert b"connection: keep-alive\r\n" in render(reply, close=False, keep_alive=True)
    assert b"connection: close\r\n" in render(reply, close=True, keep_alive=True)


def test_no_text_can_break_the_answer() -> None:
    head, _, body = render(failed(Outcome.UNKNOWN, "é\ud800\r\nx: y"), close=False).partition(b"\r\n\r\n")
    assert b"x: y" not in head
    assert b"content-length: %d" % len(body) in head
