"""Lines of a tap as text. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def read(line: bytes) -> Mapping[str, Any] | None:
    """One line of the stream; None for an empty one, which only says that it is alive."""
    if not line.strip():
        return None
    seen = json.loads(line)
    return seen if isinstance(seen, dict) else None


def remark(seen: Mapping[str, Any]) -> str:
    """What the line says about the tap itself, or nothing if it is a request."""
    if "note" in seen:
        return f"Warning: {_clean(seen['note'])}"
    if "dropped" in seen:
        return f"Warning: {seen['dropped']} requests more than --rate allows are not shown"
    return ""


def text(seen: Mapping[str, Any]) -> str:
    """`12:00:01.250  web-0 -> api-0  GET /items  200  3.1ms`, with split and reason where there are any."""
    moment = datetime.fromtimestamp(float(seen.get("time") or 0)).astimezone()
    itself = _short(seen.get("pod"))
    other = _short(seen.get("peer")) or _short(seen.get("service")) or "(unknown)"
    inbound = seen.get("direction") == "inbound"
    source, target = (other, itself) if inbound else (itself, other)
    parts = [
        moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03}",
        f"{source} -> {target}",
        f"{_clean(seen.get('method'))} {_clean(seen.get('path'))}",
        str(seen.get("status") or "no answer"),
        f"{float(seen.get('ms') or 0):.1f}ms",
        "server" if inbound else "client",
    ]
    parts += [f"{key}={_clean(seen[key])}" for key in ("grpc", "reason", "split") if seen.get(key)]
    return "  ".join(parts)


def _short(name: object) -> str:
    return _clean(name).rpartition("/")[2]


def _clean(value: object) -> str:
    """Requests are strangers' words: nothing in them may steer the terminal."""
    return "".join(char if char.isprintable() else "?" for char in str(value or ""))
