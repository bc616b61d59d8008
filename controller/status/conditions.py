"""The `status.conditions` an SMI object should have: pure, from compiled conditions and progress.

Adds `Programmed` (S31) to what the compiler says, with observedGeneration, and keeps
lastTransitionTime and other people's conditions as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from controller.compile.conditions import (
    ACCEPTED,
    BACKENDS_RESOLVED,
    CONFLICTED,
    RESOLVED_REFS,
    Condition,
    ObjectStatus,
)

PROGRAMMED: Final = "Programmed"
_COMPILED: Final = (ACCEPTED, RESOLVED_REFS, BACKENDS_RESOLVED, CONFLICTED)
_OURS: Final = (*_COMPILED, PROGRAMMED)
_MOST_NAMED: Final = 3


def programmed(done: int, concerned: int, refused: Sequence[str] = ()) -> Condition:
    """S31: how many of the proxies an object concerns run its present generation."""
    if concerned == 0:
        return Condition(PROGRAMMED, True, "NoProxies", "no proxy is concerned yet")
    counts = f"{done} of {concerned} proxies run this generation"
    if refused:
        more = f" and {len(refused) - _MOST_NAMED} more" if len(refused) > _MOST_NAMED else ""
        named = "; ".join(refused[:_MOST_NAMED])
        return Condition(PROGRAMMED, False, "Refused", f"{counts}; refused by {named}{more}")
    if done < concerned:
        return Condition(PROGRAMMED, False, "Pending", counts)
    return Condition(PROGRAMMED, True, PROGRAMMED, counts)


def desired(
    status: ObjectStatus, progress: Condition | None, present: Iterable[Mapping[str, Any]], now: str
) -> list[dict[str, Any]]:
    """The conditions to write; equal to `present` if there is nothing to change. `now` is RFC 3339.

    `progress` None: not known yet, what stands there stays.
    """
    before = {str(one.get("type")): one for one in present}
    said = (*status.conditions, progress) if progress else status.conditions
    ours = [_condition(one, status.generation, before.get(one.type), now) for one in said]
    replaced = _OURS if progress else _COMPILED
    return [*ours, *(dict(one) for kind, one in before.items() if kind not in replaced)]


def differ(wanted: Iterable[Mapping[str, Any]], present: Iterable[Mapping[str, Any]]) -> bool:
    """True if writing `wanted` would change anything; order does not count."""
    return {str(one.get("type")): dict(one) for one in wanted} != {
        str(one.get("type")): dict(one) for one in present
    }


def _condition(
    condition: Condition, generation: int, before: Mapping[str, Any] | None, now: str
) -> dict[str, Any]:
    status = "True" if condition.status else "False"
    since = before.get("lastTransitionTime") if before and before.get("status") == status else None
    return {
        "type": condition.type,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since or now,
        "reason": str(condition.reason),
        "message": condition.message,
    }
