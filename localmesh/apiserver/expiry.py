"""Events do not stay for ever: they are dropped after an hour, or earlier when there are too many."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from localmesh.apiserver.store import ChangedError, Item, Store

EVENTS = "events"
LIFE = timedelta(hours=1)
"""As upstream's --event-ttl."""
MOST = 5000
PERIOD_SECONDS = 60.0


def expired(items: list[Item], now: datetime) -> list[Item]:
    """Which events to drop: those written more than LIFE ago, and the oldest beyond MOST."""
    ordered = sorted(items, key=lambda item: item.revision)
    surplus = max(len(ordered) - MOST, 0)
    rest = [item for item in ordered[surplus:] if _written(item) < now - LIFE]
    return ordered[:surplus] + rest


def _written(item: Item) -> datetime:
    """When the event last happened, as far as it says so."""
    value = item.value
    times = (value.get("lastTimestamp"), value.get("eventTime"), value["metadata"]["creationTimestamp"])
    text = max(time for time in times if isinstance(time, str))
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


async def expire_events(store: Store) -> None:
    """Drop expired events every minute, until cancelled."""
    while True:
        for item in expired(store.items(EVENTS), datetime.now(UTC)):
            try:
                store.delete(EVENTS, item.key, item)
            except ChangedError:
                continue  # it happened again meanwhile
            await asyncio.sleep(0)
        await asyncio.sleep(PERIOD_SECONDS)
