"""Sparing the reader repetitions."""

from __future__ import annotations

import logging

from controller.logs import OncePer


def test_one_record_per_period_says_how_many_were_left_out() -> None:
    once = OncePer(5)

    def passes(at: float) -> str | None:
        record = logging.LogRecord("kopf", logging.ERROR, "", 0, "attempt %d", (1,), None)
        record.created = at
        return record.getMessage() if once.filter(record) else None

    assert [passes(at) for at in (0.0, 1.0, 4.9, 5.0, 11.0)] == [
        "attempt 1",
        None,
        None,
        "attempt 1 (and 2 like it before)",
        "attempt 1",
    ]
