"""Cron schedules as a CronJob has them: five fields or a name like @daily, in a time zone. Pure.

The fields are read and counted by cronsim, which follows Debian's cron.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MISSED_MAX: Final = 100


class ScheduleError(ValueError):
    """The schedule or the time zone cannot be read; the text says why."""


class ZoneError(ScheduleError):
    """There is no time zone of that name."""


class Schedule:
    """Raises ScheduleError for text that is no schedule."""

    def __init__(self, text: str, zone: str = "") -> None:
        fields = NAMED.get(text.strip(), text).replace("?", "*").split()
        if len(fields) != 5:
            raise ScheduleError(f"expected five fields or one of {', '.join(sorted(NAMED))}, got {text!r}")
        self._text = " ".join(fields)
        try:
            self._zone = ZoneInfo(zone) if zone else UTC
            CronSim(self._text, datetime(2026, 1, 1, tzinfo=UTC))
        except (KeyError, ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
            raise ZoneError(f"unknown time zone {zone!r}") from error
        except CronSimError as error:
            raise ScheduleError(f"{error} in {text!r}") from error

    def local(self, moment: datetime) -> datetime:
        """`moment` in the schedule's time zone."""
        return moment.astimezone(self._zone)

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than `moment`; None if there is none."""
        return _utc(next(CronSim(self._text, self.local(moment)), None))

    def last(self, after: datetime, until: datetime) -> tuple[datetime | None, int]:
        """The latest time in (after, until], and how many there are; counted up to MISSED_MAX + 1."""
        start = self.local(until) + timedelta(seconds=1)
        found, latest = 0, None
        for moment in CronSim(self._text, start, reverse=True):
            when = _utc(moment)
            assert when is not None
            if when <= after or found > MISSED_MAX:
                break
            found += 1
            latest = latest or when
        return latest, found


def _utc(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC) if moment is not None else None
