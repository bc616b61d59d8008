"""The durable log of the store: one SQLite row per revision.

It knows rows, not Kubernetes. WAL with synchronous=NORMAL survives a killed process with nothing lost; a
power cut may lose the last commits but never corrupts. Rows that no watcher may ask for any more are
removed as the window moves, a few at a time, so there is no compaction pause.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ChangeKind = Literal["ADDED", "MODIFIED", "DELETED"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
  revision INTEGER PRIMARY KEY,
  resource TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS floor (resource TEXT PRIMARY KEY, revision INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""
FORMAT = 1
"""Bumped when rows change meaning; a store of another format is refused, not guessed at."""


@dataclass(frozen=True, slots=True)
class Row:
    revision: int
    resource: str
    namespace: str
    name: str
    kind: ChangeKind
    value: bytes


class JournalError(RuntimeError):
    """The state file cannot be used; the message says which and what to do."""


class Journal:
    """Append-only rows plus, per resource, the floor below which history is incomplete."""

    def __init__(self, path: Path | None) -> None:
        """Open or create the file at `path`; None keeps everything in memory."""
        self._connection = sqlite3.connect(path if path is not None else ":memory:", isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, FORMAT):
                raise JournalError(
                    f"{path}: state format {version}, this build reads {FORMAT}; remove the file"
                )
            self._connection.executescript(_SCHEMA)
            self._connection.execute(f"PRAGMA user_version={FORMAT}")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise JournalError(
                f"{path}: not a usable state file ({error}); remove it to start afresh"
            ) from error
        except JournalError:
            self._connection.close()
            raise

    def rows(self) -> Iterator[Row]:
        """Every kept row, oldest first."""
        cursor = self._connection.execute(
            "SELECT revision, resource, namespace, name, kind, value FROM log ORDER BY revision"
        )
        for row in cursor:
            yield Row(*row)

    def floors(self) -> dict[str, int]:
        return dict(self._connection.execute("SELECT resource, revision FROM floor"))

    def append(self, row: Row) -> None:
        self._connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)",
            (row.revision, row.resource, row.namespace, row.name, row.kind, row.value),
        )

    def forget(self, resource: str, floor: int, revisions: Iterable[int]) -> None:
        """Raise the floor of `resource` and drop rows nobody can ask for."""
        self._connection.execute("BEGIN")
        try:
            self._connection.execute("INSERT OR REPLACE INTO floor VALUES (?, ?)", (resource, floor))
            self._connection.executemany("DELETE FROM log WHERE revision=?", ((r,) for r in revisions))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
