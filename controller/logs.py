"""Logging of the process: format, levels, and sparing the reader kopf's repetitions."""

from __future__ import annotations

import logging
import sys
from typing import Final

_REPEATING: Final = (
    "kopf._cogs.clients.watching",
    "kopf._cogs.clients.fetching",
    "kopf._cogs.clients.scanning",
)
"""Loggers that say one thing per watch and attempt while the API server is away."""
_SECONDS: Final = 5.0


class OncePer(logging.Filter):
    """Lets one record through per period, and says in it how many were left out since the last."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._last = float("-inf")
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created - self._last < self._seconds:
            self._left_out += 1
            return False
        if self._left_out:
            record.msg = f"{record.getMessage()} (and {self._left_out} like it before)"
            record.args = None
        self._last, self._left_out = record.created, 0
        return True


def set_up_logging(level: str) -> None:
    """Everything to standard error. kopf's own chatter from WARNING up only."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    for name in _REPEATING:
        logging.getLogger(name).addFilter(OncePer(_SECONDS))
