"""Compares what the script announced with what the pods reported. Pure.

The reports are the JSON answers of the application's control port (`conformance/app/control.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cli.demo.story import Ask, Count, Dial
from conformance.expect import Share, judge_shares
from smi.names import DENIAL_HEADER, REASON_HEADER


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the story: what was tried, announced and observed."""

    title: str
    announced: str
    observed: str
    ok: bool
    exchanges: int = 1
    """Requests or connections it took to find out."""


@dataclass(slots=True)
class Tally:
    """Answers counted so far for one `Count`."""

    sent: int = 0
    servers: dict[str, int] | None = None
    other: dict[str, int] | None = None
    """Answers other than 200, and failures, by their name."""

    def add(self, summary: Mapping[str, Any]) -> None:
        """Count one batch: the `summary` of a `/call` report."""
        self.sent += int(summary["total"])
        self.servers = _added(self.servers, summary["servers"])
        refused = {f"status {status}": n for status, n in summary["statuses"].items() if status != "200"}
        self.other = _added(self.other, refused | dict(summary["errors"]))


def _added(first: Mapping[str, int] | None, second: Mapping[str, int]) -> dict[str, int]:
    names = {**(first or {}), **second}
    return {name: (first or {}).get(name, 0) + second.get(name, 0) for name in names}


def judge_ask(ask: Ask, result: Mapping[str, Any]) -> Verdict:
    """Judge one HTTP answer: the status, and for a refusal the mesh's reason."""
    reason = refusal_reason(result.get("headers") or {})
    announced = _outcome(ask.status, ask.reason)
    if result.get("error"):
        return Verdict(ask.title, announced, f"{result['error']}: {result.get('detail', '')}", ok=False)
    status = int(result["status"])
    observed = _outcome(status, reason)
    if status == 200 and result.get("server"):
        observed += f" from {result['server']}"
    return Verdict(ask.title, announced, observed, ok=status == ask.status and reason == ask.reason)


def refusal_reason(headers: Mapping[str, str]) -> str | None:
    """The reason word of an answer that a proxy made itself; None for the application's own answers."""
    text = headers.get(DENIAL_HEADER) or headers.get(REASON_HEADER)
    return text.partition(";")[0].strip() if text else None


def _outcome(status: int, reason: str | None) -> str:
    return f"{status} {reason}" if reason else str(status)


REFUSED_TCP: Final = ("reset",)
"""How a refused TCP connection may end (S25)."""


def judge_dial(dial: Dial, result: Mapping[str, Any]) -> Verdict:
    """Judge one TCP conversation: answered, or reset."""
    error, received = result.get("error"), list(result.get("received") or [])
    observed = f"{error}" if error else " · ".join(received)
    announced = "an answer" if dial.opens else "reset"
    ok = bool(received) and not error if dial.opens else error in REFUSED_TCP and not received
    return Verdict(dial.title, announced, observed, ok=ok)


def shares(count: Count, tally: Tally) -> tuple[Share, ...]:
    """Each backend's share so far against its exact bound."""
    return judge_shares(dict(count.weights), tally.servers or {})


def judge_count(count: Count, tally: Tally) -> Verdict:
    """Judge counted shares: every answer a 200, and every backend within its exact bound."""
    parts = judge_shares(dict(count.weights), tally.servers or {}, picks=count.picks)
    wanted = ", ".join(f"{part.name} {part.bound}" for part in parts)
    observed = ", ".join(f"{part.name} {part.count}" for part in parts)
    failed = {name: n for name, n in (tally.other or {}).items() if n}
    if failed:
        observed += ", " + ", ".join(f"{n} × {name}" for name, n in sorted(failed.items()))
    complete = tally.sent == count.picks
    ok = complete and not failed and all(part.ok for part in parts)
    return Verdict(count.title, wanted, observed, ok=ok, exchanges=tally.sent)


def judge_live(name: str, seconds: float | None, limit: float | None) -> Verdict | None:
    """Judge the time from apply to live; None when nothing was announced about it."""
    if limit is None and seconds is not None:
        return None
    announced = f"< {1000 * limit:.0f} ms" if limit is not None else "live"
    observed = "never" if seconds is None else f"{1000 * seconds:.0f} ms"
    ok = seconds is not None and (limit is None or seconds < limit)
    return Verdict(f"{name} live in every proxy concerned", announced, observed, ok=ok, exchanges=0)


def passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether the whole story came out as announced; a story without checks did not."""
    return bool(verdicts) and all(verdict.ok for verdict in verdicts)
