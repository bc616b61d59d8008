"""What the watches have seen of the cluster, and when that may be believed.

Reads kopf's indexes, leaves out ghosts (objects that went away while nobody was watching), and
freezes the rest into a World. Knows no kopf operator and no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import kopf

from controller.compile.read import from_kubernetes
from controller.compile.world import Reading, World
from smi.findings import ObjectRef

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Observed:
    """One object as last seen: what the compiler reads of it, and what status reporting needs."""

    reading: Reading
    uid: str
    conditions: tuple[Mapping[str, Any], ...] = ()
    """`status.conditions` of an SMI object as it stands in the cluster."""


Index = kopf.Index[str, Observed]
"""`namespace/name` → objects of that name: two for a moment where one was deleted and made anew."""


def observe(kind: str, body: Mapping[str, Any], *, smi: bool) -> Observed:
    """Read one object. Never raises for bad content: that becomes a Finding of the reading."""
    uid = str((body.get("metadata") or {}).get("uid") or "")
    return Observed(from_kubernetes(kind, body), uid, _conditions(body) if smi else ())


def _conditions(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    status = body.get("status")
    conditions = status.get("conditions") if isinstance(status, Mapping) else None
    if not isinstance(conditions, list | tuple):
        return ()
    return tuple(dict(one) for one in conditions if isinstance(one, Mapping))


def ghosts(known_before: Mapping[_Value, object] | set[_Value], listed: set[_Value]) -> set[_Value]:
    """What was known before a list was asked for and is not in it: gone, though nobody said so."""
    return set(known_before) - listed


@dataclass(slots=True)
class Cluster:
    """The indexes of one run of the operator. `indexes` is empty until every kind has been listed."""

    trust_domain: str
    cluster_domain: str
    indexes: dict[str, Index] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """uids of ghosts."""

    @property
    def complete(self) -> bool:
        return bool(self.indexes)

    def uids(self, kind: str) -> set[str]:
        """Every object of `kind` that is believed to exist."""
        return {one.uid for one in self._objects(kind)}

    def banish(self, uids: set[str]) -> None:
        """Never believe in these objects again; forget ghosts that kopf itself has let go."""
        present = {one.uid for index in self.indexes.values() for store in index.values() for one in store}
        self.gone = (self.gone | uids) & present

    def world(self) -> World | None:
        """Everything at this moment; None before every kind has been listed."""
        if not self.complete:
            return None
        readings = (one.reading for kind in self.indexes for one in self._objects(kind))
        return World.of(readings, trust_domain=self.trust_domain, cluster_domain=self.cluster_domain)

    def find(self, ref: ObjectRef) -> Observed | None:
        """One object as last seen."""
        index = self.indexes.get(ref.kind)
        name = f"{ref.namespace}/{ref.name}"
        if index is None or name not in index:
            return None
        return self._living(index[name])

    def _objects(self, kind: str) -> Iterator[Observed]:
        for store in self.indexes[kind].values():
            living = self._living(store)
            if living is not None:
                yield living

    def _living(self, store: kopf.Store[Observed]) -> Observed | None:
        """The newest object of one name: the index keeps order of arrival."""
        living = [one for one in store if one.uid not in self.gone]
        return living[-1] if living else None
