from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from localmesh.schedules import MISSED_MAX, Schedule, ScheduleError, ZoneError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_next_and_last_times_are_those_of_the_zone() -> None:
    daily = Schedule("30 9 * * *", "Asia/Kolkata")  # 04:00 UTC
    assert daily.after(NOON) == datetime(2026, 1, 2, 4, tzinfo=UTC)
    assert daily.last(NOON - timedelta(days=3), NOON) == (datetime(2026, 1, 1, 4, tzinfo=UTC), 3)


def test_the_last_time_includes_this_very_moment_and_not_the_first() -> None:
    hourly = Schedule("@hourly")
    assert hourly.last(NOON - timedelta(hours=2), NOON) == (NOON, 2)
    assert hourly.last(NOON, NOON + timedelta(minutes=59)) == (None, 0)
    assert hourly.after(NOON) == NOON + timedelta(hours=1)


def test_missed_times_are_counted_to_a_limit_only() -> None:
    assert Schedule("* * * * *").last(NOON - timedelta(days=365), NOON) == (NOON, MISSED_MAX + 1)


@pytest.mark.parametrize(
    "text", ["", "* * * *", "61 * * * *", "@every 5m", "* * * * * *", "TZ=UTC * * * * *"]
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError, match=r"five fields|Bad"):
        Schedule(text)


def test_unknown_zones_are_named() -> None:
    with pytest.raises(ZoneError, match="Mars/Phobos"):
        Schedule("* * * * *", "Mars/Phobos")
