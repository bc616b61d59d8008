"""What somebody who taps wants to see. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_SECONDS: Final = 600
MAX_RATE: Final = 100
MAX_PODS: Final = 50
_STATUS: Final = re.compile(r"[1-5](\d\d|xx)|0")
_MAX_TEXT: Final = 200


class TapOrderError(ValueError):
    """A parameter cannot be used; says which and what would do."""


@dataclass(frozen=True, slots=True)
class TapOrder:
    """Filters (empty: anything), for how long, and how many requests a second of each proxy."""

    direction: str = ""
    method: str = ""
    path: str = ""
    status: str = ""
    peer: str = ""
    seconds: int = 60
    rate: int = 20

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> TapOrder:
        """From the query of a request; raises TapOrderError."""
        direction, status = parameters.get("direction", ""), parameters.get("status", "")
        if direction not in ("", "inbound", "outbound"):
            raise TapOrderError(f"direction: expected inbound or outbound, got {direction[:40]!r}")
        if status and not _STATUS.fullmatch(status):
            raise TapOrderError(
                f"status: expected a status such as 503 or a class such as 5xx, got {status[:40]!r}"
            )
        texts = {key: parameters.get(key, "") for key in ("method", "path", "peer")}
        for key, text in texts.items():
            if len(text) > _MAX_TEXT or not text.isprintable():
                raise TapOrderError(f"{key}: expected at most {_MAX_TEXT} printable characters")
        return cls(
            direction,
            texts["method"].upper(),
            texts["path"],
            status,
            texts["peer"],
            _whole(parameters, "seconds", cls().seconds, MAX_SECONDS),
            _whole(parameters, "rate", cls().rate, MAX_RATE),
        )

    @property
    def filters(self) -> dict[str, str]:
        """What proxies are told to look for."""
        found = {key: getattr(self, key) for key in ("direction", "method", "path", "status", "peer")}
        return {key: text for key, text in found.items() if text}


def _whole(parameters: Mapping[str, str], key: str, default: int, most: int) -> int:
    text = parameters.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most):
        raise TapOrderError(f"{key}: expected a whole number from 1 to {most}, got {text[:40]!r}")
    return int(text)
