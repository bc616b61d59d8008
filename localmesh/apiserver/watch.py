"""Following a resource over time: initial state, changes, selector transitions, bookmarks, the end.

Contract: kubernetes-api.md Appendix B. A watcher holds no queue, only a position in the store's window of
changes, so a slow one costs nothing; when it falls behind the window it is told 410 and ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from localmesh.apiserver.call import Target
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.registry import Registry
from localmesh.apiserver.selectors import ALL_FIELDS, EVERYTHING, FieldSelector, LabelSelector
from localmesh.apiserver.store import Change, Item, Store

BOOKMARK_SECONDS = 60.0
LAST_BOOKMARK_SECONDS = 2.0
"""How long before its end a watch with bookmarks sends the last one."""
MIN_SECONDS = 1800.0
"""A watch without a time-out ends after this long up to twice this long, as upstream."""
BATCH = 256
"""Most events handed out at once."""
INITIAL_EVENTS_END = "k8s.io/initial-events-end"

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]


@dataclass(frozen=True, slots=True)
class WatchQuery:
    revision: int | None = None
    """Changes after this revision; None or 0 means the present state first."""
    labels: LabelSelector = EVERYTHING
    fields: FieldSelector = ALL_FIELDS
    bookmarks: bool = False
    initial_events: bool = False
    """WatchList: the present state, then a bookmark that says it is complete."""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One frame. `item` for objects, `status` for ERROR, `revision` (and `complete`) for BOOKMARK."""

    type: EventType
    item: Item | None = None
    status: JsonObject | None = None
    revision: int = 0
    complete: bool = False


class Watcher:
    """One watch; `events()` yields batches until it is over."""

    def __init__(self, store: Store, registry: Registry, target: Target, query: WatchQuery) -> None:
        self._store = store
        self._registry = registry
        self._target = target
        self._query = query
        self._resource = target.resource.stored_as
        self._seen = query.revision or 0

    async def events(self) -> AsyncIterator[Sequence[Event]]:
        loop = asyncio.get_running_loop()
        jitter = 1 + random.random()  # noqa: S311 - spreads reconnects, no secret
        end = loop.time() + (MIN_SECONDS * jitter if self._query.seconds is None else self._query.seconds)
        with self._store.waiting(self._resource) as written:
            try:
                position = self._start()
            except ApiError as error:
                yield [Event("ERROR", status=error.body())]
                return
            for batch in self._initial():
                yield batch
            next_bookmark = self._next_bookmark(loop.time(), end)
            while loop.time() < end and not self._store.closing:
                written.clear()
                try:
                    changes = self._store.changes(self._resource, position)[:BATCH]
                except ApiError as error:
                    yield [Event("ERROR", status=error.body())]
                    return
                position += len(changes)
                batch = [event for change in changes if (event := self._event(change)) is not None]
                if batch:
                    yield batch
                if not changes:
                    if not self._still_served():
                        return
                    if loop.time() >= next_bookmark:
                        next_bookmark = self._next_bookmark(loop.time(), end)
                        yield [Event("BOOKMARK", revision=self._current())]
                    await _wait(written, min(end, next_bookmark) - loop.time())

    def _start(self) -> int:
        if self._query.revision and not self._query.initial_events:
            return self._store.position(self._resource, self._query.revision)
        self._seen = self._store.revision
        return self._store.position(self._resource)

    def _initial(self) -> list[list[Event]]:
        if self._query.revision and not self._query.initial_events:
            return []
        present = self._store.items(self._resource, self._target.namespace or None)
        events = [Event("ADDED", item) for item in present if self._selects(item)]
        batches = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]
        if self._query.initial_events and self._query.bookmarks:
            self._seen = self._store.revision
            batches.append([Event("BOOKMARK", revision=self._seen, complete=True)])
        return batches

    def _event(self, change: Change) -> Event | None:
        """What a change means to this watcher: objects enter and leave its selection."""
        namespace = self._target.namespace
        if change.revision <= self._seen or (namespace and change.item.key.namespace != namespace):
            return None
        was = change.before is not None and self._selects(change.before)
        now = change.kind != "DELETED" and self._selects(change.item)
        if now:
            return Event("MODIFIED" if was else "ADDED", change.item)
        if not was:
            return None
        if change.kind == "DELETED" or change.before is None:
            return Event("DELETED", change.item)
        return Event("DELETED", _restamped(change.before, change.item))

    def _selects(self, item: Item) -> bool:
        query = self._query
        if query.labels.requirements and not query.labels.matches(item.value["metadata"].get("labels")):
            return False
        return not query.fields.requirements or query.fields.matches(item.value)

    def _next_bookmark(self, now: float, end: float) -> float:
        if not self._query.bookmarks:
            return end
        last = end - LAST_BOOKMARK_SECONDS
        if now >= last:
            return end + 1  # the last one was sent
        return min(now + BOOKMARK_SECONDS, last)

    def _current(self) -> int:
        return max(self._store.revision, self._seen)

    def _still_served(self) -> bool:
        served = self._registry.get(self._target.resource.key)
        return served is not None and self._target.version in served.versions


def _restamped(before: Item, after: Item) -> Item:
    """The state an object had when it left the selection, under the revision at which it left."""
    meta = {**before.value["metadata"], "resourceVersion": str(after.revision)}
    value = {**before.value, "metadata": meta}
    return Item(before.key, after.revision, value, b"")


async def _wait(written: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            await written.wait()
    except TimeoutError:
        return
