"""The one place that holds objects: a dict per resource, a global revision, and a window of recent changes.

Reads are served from memory; every write is journalled before it becomes visible. It belongs to one event
loop and never awaits, so a read followed by a write without an `await` in between is atomic. It knows keys
and JSON, not kinds, versions or validation. Values handed to `put` belong to the store from then on.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from localmesh.apiserver.errors import expired
from localmesh.apiserver.journal import ChangeKind, Journal, Row
from localmesh.apiserver.jsonvalue import JsonObject, dumps, loads

WINDOW = 4096
"""Changes kept per resource: how far back a watch may resume and a paged list may look."""
SLACK = 256
"""How many changes beyond the window pile up before the oldest are dropped together."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Namespace ("" when cluster-scoped) and name; sorts as etcd lists."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One revision of one object. `value` is shared and never mutated; `text` is its compact JSON."""

    key: Key
    revision: int
    value: JsonObject
    text: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One write. For DELETED `item` is the last state under the revision of the deletion."""

    kind: ChangeKind
    item: Item
    before: Item | None

    @property
    def revision(self) -> int:
        return self.item.revision


class ChangedError(Exception):
    """The object is no longer the one the writer looked at."""


@dataclass(slots=True)
class _Table:
    """One resource: its objects, its recent changes, and who waits for the next one."""

    items: dict[Key, Item] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    dropped: int = 0  # changes dropped so far, so that `dropped + position` is a stable index
    floor: int = 0  # newest revision that was dropped
    waiters: set[asyncio.Event] = field(default_factory=set)


class Store:
    def __init__(self, path: Path | None = None, *, window: int = WINDOW, slack: int = SLACK) -> None:
        """Open the journal at `path` (None: memory only) and replay it."""
        self._journal = Journal(path)
        self.window = window
        self.slack = slack
        self._tables: dict[str, _Table] = {}
        self._revision = 0
        self._listeners: list[Callable[[str, Change], None]] = []
        self.closing = False
        self._replay()

    @property
    def revision(self) -> int:
        """The newest revision given out, 0 for an empty store."""
        return self._revision

    def close(self) -> None:
        self._journal.close()

    def on_change(self, listener: Callable[[str, Change], None]) -> None:
        """Call `listener(resource, change)` after every write, in order; it must not write or raise."""
        self._listeners.append(listener)

    # --- reading ---------------------------------------------------------------------------------

    def get(self, resource: str, key: Key) -> Item | None:
        table = self._tables.get(resource)
        return table.items.get(key) if table else None

    def count(self, resource: str) -> int:
        table = self._tables.get(resource)
        return len(table.items) if table else 0

    def items(self, resource: str, namespace: str | None = None) -> list[Item]:
        """Objects in key order; `namespace` None means all."""
        table = self._tables.get(resource)
        return _ordered(table.items, namespace) if table else []

    def items_at(self, resource: str, revision: int, namespace: str | None = None) -> list[Item]:
        """Objects as they were at `revision`, by undoing newer changes;
        raises ApiError 410 beyond the window.
        """
        table = self._table(resource)
        if revision < table.floor:
            raise expired(revision, table.floor)
        items = dict(table.items)
        for change in reversed(table.changes):
            if change.revision <= revision:
                break
            if change.before is None:
                items.pop(change.item.key, None)
            else:
                items[change.item.key] = change.before
        return _ordered(items, namespace)

    # --- writing ---------------------------------------------------------------------------------

    def put(self, resource: str, key: Key, value: JsonObject, expect: Item | None) -> Item:
        """Store `value` and stamp its resourceVersion;
        raises ChangedError unless `expect` is what is stored now.
        """
        table = self._table(resource)
        if table.items.get(key) is not expect:
            raise ChangedError
        revision = self._revision + 1
        value["metadata"]["resourceVersion"] = str(revision)
        item = Item(key, revision, value, dumps(value))
        self._commit(resource, table, Change("MODIFIED" if expect else "ADDED", item, expect))
        table.items[key] = item
        self._publish(resource, table)
        return item

    def delete(self, resource: str, key: Key, expect: Item) -> Item:
        """Remove the object; the returned item is its last state under the deletion's revision."""
        table = self._table(resource)
        if table.items.get(key) is not expect:
            raise ChangedError
        revision = self._revision + 1
        value = {**expect.value, "metadata": {**expect.value["metadata"], "resourceVersion": str(revision)}}
        item = Item(key, revision, value, dumps(value))
        self._commit(resource, table, Change("DELETED", item, expect))
        del table.items[key]
        self._publish(resource, table)
        return item

    # --- following -------------------------------------------------------------------------------

    def position(self, resource: str, revision: int | None = None) -> int:
        """Where to start reading changes newer than `revision` (None: newer than now);
        ApiError 410 if too old.
        """
        table = self._table(resource)
        if revision is None:
            return table.dropped + len(table.changes)
        if revision < table.floor:
            raise expired(revision, table.floor)
        return table.dropped + bisect_right(table.changes, revision, key=lambda change: change.revision)

    def changes(self, resource: str, position: int) -> list[Change]:
        """Changes from `position` on; the next position is `position + len(result)`.
        ApiError 410 if dropped.
        """
        table = self._table(resource)
        if position < table.dropped:
            raise expired(position, table.floor)
        return table.changes[position - table.dropped :]

    @contextmanager
    def waiting(self, resource: str) -> Iterator[asyncio.Event]:
        """An event that is set after each write to `resource`;
        the reader clears it before reading changes.
        """
        table = self._table(resource)
        event = asyncio.Event()
        table.waiters.add(event)
        try:
            yield event
        finally:
            table.waiters.discard(event)

    def end_watches(self) -> None:
        """Tell every watcher that the server is going away."""
        self.closing = True
        for resource in self._tables:
            self.wake(resource)

    def wake(self, resource: str) -> None:
        """Make watchers of `resource` look whether it is still served."""
        for waiter in self._table(resource).waiters:
            waiter.set()

    # --- inside ----------------------------------------------------------------------------------

    def _table(self, resource: str) -> _Table:
        table = self._tables.get(resource)
        if table is None:
            table = self._tables[resource] = _Table()
        return table

    def _commit(self, resource: str, table: _Table, change: Change) -> None:
        item = change.item
        row = Row(item.revision, resource, item.key.namespace, item.key.name, change.kind, item.text)
        self._journal.append(row)
        self._revision = item.revision
        table.changes.append(change)

    def _publish(self, resource: str, table: _Table) -> None:
        change = table.changes[-1]
        for listener in self._listeners:
            listener(resource, change)
        for waiter in table.waiters:
            waiter.set()
        if len(table.changes) >= self.window + self.slack:
            self._trim(resource, table)

    def _trim(self, resource: str, table: _Table) -> None:
        excess = len(table.changes) - self.window
        old, table.changes = table.changes[:excess], table.changes[excess:]
        table.dropped += excess
        table.floor = old[-1].revision
        useless = [change.before.revision for change in old if change.before is not None]
        # A deletion's own row is needed until the next restart no more than the object's rows are.
        useless += [change.revision for change in old if change.kind == "DELETED"]
        self._journal.forget(resource, table.floor, useless)

    def _replay(self) -> None:
        floors = self._journal.floors()
        for resource, floor in floors.items():
            self._table(resource).floor = floor
            self._revision = max(self._revision, floor)
        for row in self._journal.rows():
            table = self._table(row.resource)
            key = Key(row.namespace, row.name)
            item = Item(key, row.revision, loads(row.value), row.value)
            before = table.items.get(key)
            if row.revision > table.floor:
                table.changes.append(Change(row.kind, item, before))
            if row.kind == "DELETED":
                table.items.pop(key, None)
            else:
                table.items[key] = item
            self._revision = max(self._revision, row.revision)


def _ordered(items: dict[Key, Item], namespace: str | None) -> list[Item]:
    keys = sorted(items) if namespace is None else sorted(key for key in items if key.namespace == namespace)
    return [items[key] for key in keys]
