"""What this proxy knows right now: its inbound policy and the destinations it has asked for.

Data with tiny observers, used from one thread (the event loop) only. Whoever serves a connection
reads it; `control.discovery` feeds it with `apply` and carries the subscriptions that `require`
makes. It must not know sockets, TLS or the discovery protocol's framing: an update reaches it as
the decoded JSON object. Targets and clusters are immutable and replaced on update, so an exchange
in flight keeps the config it began with. All of it survives the loss of the controller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smi.policy.access import AccessTable, compile_access
from smi.policy.codec import (
    CodecError,
    decode_breaker,
    decode_cluster,
    decode_destination,
    decode_inbound,
    encode_breaker,
    encode_cluster,
    encode_destination,
    encode_inbound,
)
from smi.policy.snapshot import Backend, CircuitBreaker, Cluster, Destination, Inbound, Protocol, Split
from smi.policy.split import DestinationTable, Picker, compile_destination, takers

ANSWER_SECONDS: Final = 2.0
"""How long `require` waits for the controller's answer to a first use."""
IDLE_SWEEPS: Final = 10
"""A subscription not used during this many sweeps is given up (one sweep a minute: 10 minutes)."""
MAX_SUBSCRIPTIONS: Final = 4096
"""More destinations than this are not held at once; the least recently used idle one makes room."""
MAX_KEY_LENGTH: Final = 300
"""A host name has at most 253 characters (RFC 1035 §2.3.4) and a port five."""
_MAX_PICKERS: Final = 16

SplitKey = tuple[str, str, str]
"""(root service, root port, split name): what one sequence of turns belongs to. A UDP port is written
`53/udp`: it may share its number with a TCP port."""

INBOUND: Final = "inbound"
DESTINATION_PREFIX: Final = "destination/"
CLUSTER_PREFIX: Final = "cluster/"
BREAKER_PREFIX: Final = "breaker/"


class NotKnown(Exception):  # noqa: N818 - names a state of knowledge, reads as one at `except`
    """The controller has not said (in time) what is behind a key."""


class Endpoints:
    """The clusters by key. `epoch` grows with every change, so that derived choices can be kept."""

    __slots__ = ("clusters", "epoch")

    def __init__(self) -> None:
        self.clusters: Mapping[str, Cluster] = {}
        self.epoch = 0

    def replace(self, clusters: Mapping[str, Cluster]) -> None:
        self.clusters = clusters
        self.epoch += 1

    def of(self, key: str) -> Cluster:
        """Empty for a cluster that is not known."""
        return self.clusters.get(key, ())


class Tally:
    """What happened to one backend of one split: `picks` it got, `skipped` turns it was left out of (S7)."""

    __slots__ = ("picks", "skipped")

    def __init__(self) -> None:
        self.picks = 0
        self.skipped = 0


class Turns:
    """Whose turn it is among one split's backends (S7, S14).

    Shared by all keys that lead to the same root and port, because S14 bounds the picks of one
    proxy. It outlives updates as long as the backends and weights are unchanged. The picker of a
    set of eligible backends is kept while other sets are in use, so that flapping endpoints do not
    restart the sequence each time.
    """

    __slots__ = (
        "_chosen",
        "_endpoints",
        "_epoch",
        "_phase",
        "_picker",
        "_pickers",
        "_skipped",
        "split",
        "tallies",
    )

    def __init__(self, split: Split, endpoints: Endpoints, phase: int, tallies: Mapping[str, Tally]) -> None:
        self.split = split
        self.tallies = tallies
        self._endpoints = endpoints
        self._phase = phase
        self._epoch = -1
        self._chosen: tuple[tuple[Backend, Tally], ...] = ()
        self._skipped: tuple[Tally, ...] = ()
        self._picker: Picker | None = None
        self._pickers: dict[tuple[Backend, ...], Picker] = {}

    def next(self) -> Backend | None:
        """Take the next turn. None: no backend is eligible (S8)."""
        if self._epoch != self._endpoints.epoch:
            self._refresh()
        for tally in self._skipped:
            tally.skipped += 1
        if self._picker is None:
            return None
        backend, tally = self._chosen[self._picker.pick()]
        tally.picks += 1
        return backend

    def _refresh(self) -> None:
        able = takers(self.split, self._endpoints.of)
        self._chosen = tuple((backend, self.tallies[backend.service]) for backend in able)
        self._skipped = tuple(
            self.tallies[backend.service]
            for backend in self.split.backends
            if backend.weight > 0 and backend not in able
        )
        self._picker = self._picker_for(able) if able else None
        self._epoch = self._endpoints.epoch

    def _picker_for(self, able: tuple[Backend, ...]) -> Picker:
        picker = self._pickers.pop(able, None)
        if picker is None:
            picker = Picker([backend.weight for backend in able], self._phase)
        self._pickers[able] = picker  # last position: most recently used
        if len(self._pickers) > _MAX_PICKERS:
            del self._pickers[next(iter(self._pickers))]
        return picker


@dataclass(frozen=True, slots=True)
class Target:
    """What is behind one key. Immutable but for the turns, whose only mutation is `next()`."""

    key: str
    destination: Destination
    table: DestinationTable
    turns: Mapping[str, Turns]
    """Split name -> turns, for every split of `destination`."""


class State:
    """The last good config. `phase` is this proxy's random seed of S14 (proxies must not step together)."""

    __slots__ = (
        "_answers",
        "_endpoints",
        "_first",
        "_idle",
        "_inbound",
        "_on_subscriptions",
        "_on_update",
        "_phase",
        "_targets",
        "_turns",
        "_used",
        "breakers",
        "connected",
        "inbound",
        "revision",
    )

    def __init__(self, phase: int) -> None:
        self.inbound: AccessTable | None = None
        """None until the first config: nothing may be admitted then (reason `no-config`)."""
        self.breakers: Mapping[str, CircuitBreaker] = {}
        """Of those clusters whose Service says something of it, by key; another object after a change."""
        self.revision = 0
        """Revision of the last update applied; 0 before the first."""
        self.connected = False
        """Whether a discovery stream is up; kept by its client, for metrics and readiness only."""
        self._phase = phase
        self._inbound: Inbound | None = None
        self._endpoints = Endpoints()
        self._targets: Mapping[str, Target] = {}
        self._turns: Mapping[SplitKey, Turns] = {}
        self._idle: dict[str, int] = {}  # subscribed key -> sweeps since its last use, in order of use
        self._used: set[str] = set()
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._first: list[asyncio.Future[None]] = []
        self._on_subscriptions: list[Callable[[tuple[str, ...], tuple[str, ...]], None]] = []
        self._on_update: list[Callable[[], None]] = []

    # --- reading (hot path) --------------------------------------------------------------------

    def lookup(self, key: str) -> Target | None:
        """What is behind `key` ("ip:port" or "host:port"), or None if not (yet) known. Counts as a use."""
        target = self._targets.get(key)
        if target is not None:
            self._used.add(key)
        return target

    def touch(self, key: str) -> None:
        """Say that `key` is in use without looking it up (long-lived connections)."""
        self._used.add(key)

    def subscribe(self, key: str) -> bool:
        """Subscribe to `key` without waiting; whether it is known already. Raises NotKnown (`require`)."""
        if self.lookup(key) is not None:
            return True
        self._ask(key)
        return False

    def cluster(self, key: str) -> Cluster:
        """Endpoints of a cluster; empty if there is none, or no such cluster."""
        return self._endpoints.clusters.get(key, ())

    async def require(self, key: str, seconds: float = ANSWER_SECONDS) -> Target:
        """Look `key` up, subscribing to it on first use.

        Waits at most `seconds` for the answer, then raises NotKnown. The subscription stays, so the
        answer serves the next caller. Also raises NotKnown at once if too many keys are in use.
        """
        target = self.lookup(key)
        if target is not None:
            return target
        answer = self._ask(key)
        try:
            await asyncio.wait_for(asyncio.shield(answer), seconds)
        except TimeoutError:
            raise NotKnown(f"the controller did not say within {seconds:g} s what {key} is") from None
        target = self.lookup(key)
        if target is None:
            raise NotKnown(f"{key} was given up while it was waited for")
        return target

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """All keys the controller must answer and keep up to date."""
        return tuple(self._idle)

    # --- observing -----------------------------------------------------------------------------

    def on_subscriptions(self, callback: Callable[[tuple[str, ...], tuple[str, ...]], None]) -> None:
        """Call `callback(added, removed)` when the set of subscribed keys changes."""
        self._on_subscriptions.append(callback)

    def on_update(self, callback: Callable[[], None]) -> None:
        """Call `callback()` after every applied update that changed something."""
        self._on_update.append(callback)

    async def wait_configured(self) -> None:
        """Return as soon as there is an inbound policy."""
        while self.inbound is None:
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._first.append(changed)
            await changed

    def turns(self) -> Iterator[tuple[SplitKey, Backend, Turns]]:
        """Every backend of every split in use, with the turns that hold its tally, for metrics."""
        for key, turns in self._turns.items():
            for backend in turns.split.backends:
                yield key, backend, turns

    def quarantined(self) -> tuple[str, ...]:
        """Patterns of the config in force that do not compile here; their matches match nothing (R3)."""
        found = set(self.inbound.quarantined) if self.inbound is not None else set()
        for target in self._targets.values():
            found.update(target.table.quarantined)
        return tuple(sorted(found))

    def describe(self) -> dict[str, Any]:
        """The config in force as JSON-able data, in the form the controller sent it (for /config)."""
        resources: dict[str, Any] = {}
        if self._inbound is not None:
            resources[INBOUND] = encode_inbound(self._inbound)
        for key, target in self._targets.items():
            resources[DESTINATION_PREFIX + key] = encode_destination(target.destination)
        for key, cluster in self._endpoints.clusters.items():
            resources[CLUSTER_PREFIX + key] = encode_cluster(cluster)
        for key, breaker in self.breakers.items():
            resources[BREAKER_PREFIX + key] = encode_breaker(breaker)
        return {
            "revision": self.revision,
            "connected": self.connected,
            "subscriptions": sorted(self._idle),
            "quarantined": list(self.quarantined()),
            "resources": resources,
        }

    def resources(self, keys: Iterable[str]) -> dict[str, Any]:
        """The inbound policy, what is known of these keys, and the clusters they lead to, as it was sent."""
        found: dict[str, Any] = {}
        if self._inbound is not None:
            found[INBOUND] = encode_inbound(self._inbound)
        clusters: set[str] = set()
        for key in keys:
            target = self._targets.get(key)
            if target is None:
                continue
            destination = target.destination
            found[DESTINATION_PREFIX + key] = encode_destination(destination)
            clusters.update(backend.cluster for split in destination.splits for backend in split.backends)
            if destination.cluster is not None:
                clusters.add(destination.cluster)
        for name in clusters:
            found[CLUSTER_PREFIX + name] = encode_cluster(self.cluster(name))
            if name in self.breakers:
                found[BREAKER_PREFIX + name] = encode_breaker(self.breakers[name])
        return found

    # --- feeding -------------------------------------------------------------------------------

    def apply(self, update: Mapping[str, Any]) -> None:
        """Apply one update of the discovery protocol, whole or not at all.

        `{"revision": int, "full": bool, "resources": {name: value}, "removed": [name]}`. Raises
        CodecError, with nothing changed, if any part of it is not understood. Destinations that are
        no longer subscribed to and resource kinds of a newer controller are ignored.
        """
        staged = self._stage(update)
        changed = bool(update.get("full") or update.get("resources") or update.get("removed"))
        self._inbound, self.inbound = staged.inbound, staged.access
        self._targets, self._turns = staged.targets, staged.turns
        self.breakers = staged.breakers
        if staged.clusters is not self._endpoints.clusters:
            self._endpoints.replace(staged.clusters)
        self.revision = staged.revision
        for key in [key for key in self._answers if key in self._targets]:
            _wake(self._answers.pop(key))
        if self.inbound is not None:
            while self._first:
                _wake(self._first.pop())
        if changed:
            for callback in self._on_update:
                callback()

    def sweep(self) -> tuple[str, ...]:
        """Give up the keys that were not used during the last IDLE_SWEEPS sweeps; returns them.

        To be called once a minute. Their clusters stay until the controller removes them.
        """
        gone = []
        for key, idle in self._idle.items():
            self._idle[key] = 0 if key in self._used else idle + 1
            if self._idle[key] >= IDLE_SWEEPS:
                gone.append(key)
        self._used.clear()
        self._give_up(gone)
        return tuple(gone)

    def _ask(self, key: str) -> asyncio.Future[None]:
        """The pending answer for `key`; subscribes if nobody waits for one yet."""
        if len(key) > MAX_KEY_LENGTH:
            raise NotKnown(f"a destination of {len(key)} characters is no host and port")
        if not (key.isascii() and key.isprintable()):
            raise NotKnown("a destination with other than printable ASCII characters is no host and port")
        self._used.add(key)
        answer = self._answers.get(key)
        if answer is None:
            if key not in self._idle and len(self._idle) >= MAX_SUBSCRIPTIONS:
                self._make_room()
            answer = self._answers[key] = asyncio.get_running_loop().create_future()
            self._idle[key] = 0
            self._notify((key,), ())
        return answer

    def _make_room(self) -> None:
        key, _ = max(self._idle.items(), key=lambda item: -1 if item[0] in self._used else item[1])
        if key in self._used:
            raise NotKnown(f"more than {MAX_SUBSCRIPTIONS} destinations are in use at once")
        self._give_up([key])

    def _give_up(self, keys: list[str]) -> None:
        if not keys:
            return
        for key in keys:
            del self._idle[key]
            answer = self._answers.pop(key, None)
            if answer is not None:
                _wake(answer)
        self._targets = {key: target for key, target in self._targets.items() if key in self._idle}
        self._turns = _turns_in_use(self._targets)
        self._notify((), tuple(keys))

    def _notify(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        for callback in self._on_subscriptions:
            callback(added, removed)

    def _stage(self, update: Mapping[str, Any]) -> _Staged:
        revision, full, resources, removed = _envelope(update)
        try:
            return self._decode(revision, full, resources, removed)
        except CodecError:
            raise
        except ValueError as error:  # a pattern that does not compile here
            raise CodecError(f"revision {revision}: {error}") from error

    def _decode(self, revision: int, full: bool, resources: Mapping[str, Any], removed: list[str]) -> _Staged:
        # A full update may come in several lines: until the inbound policy comes, the last good one holds.
        inbound, access = self._inbound, self.inbound
        targets = {} if full else dict(self._targets)
        clusters = {} if full else self._endpoints.clusters
        turns = dict(self._turns)
        if full or any(name.startswith(CLUSTER_PREFIX) for name in (*resources, *removed)):
            clusters = dict(clusters)
            _decode_clusters(clusters, resources, removed)
        breakers = {} if full else self.breakers
        if any(name.startswith(BREAKER_PREFIX) for name in (*resources, *removed)):
            breakers = dict(breakers)
            _decode_breakers(breakers, resources, removed)
        if INBOUND in resources:
            inbound = decode_inbound(resources[INBOUND])
            access = compile_access(inbound)
        for name in removed:
            targets.pop(name.removeprefix(DESTINATION_PREFIX), None)
        for name, value in resources.items():
            key = name.removeprefix(DESTINATION_PREFIX)
            if key != name and key in self._idle:
                targets[key] = self._target(key, decode_destination(value), turns)
        return _Staged(revision, inbound, access, targets, _turns_in_use(targets), clusters, breakers)

    def _target(self, key: str, destination: Destination, turns: dict[SplitKey, Turns]) -> Target:
        mine = {}
        for split in destination.splits:
            place = _place(destination, split.name)
            mine[split.name] = turns[place] = self._turns_for(split, turns.get(place))
        return Target(key, destination, compile_destination(destination), mine)

    def _turns_for(self, split: Split, before: Turns | None) -> Turns:
        if before is not None and before.split.backends == split.backends:
            return before
        old = before.tallies if before is not None else {}
        tallies = {backend.service: old.get(backend.service) or Tally() for backend in split.backends}
        return Turns(split, self._endpoints, self._phase, tallies)


@dataclass(frozen=True, slots=True)
class _Staged:
    """An update, decoded and ready to be swapped in."""

    revision: int
    inbound: Inbound | None
    access: AccessTable | None
    targets: Mapping[str, Target]
    turns: Mapping[SplitKey, Turns]
    clusters: Mapping[str, Cluster]
    breakers: Mapping[str, CircuitBreaker]


def _envelope(update: Mapping[str, Any]) -> tuple[int, bool, Mapping[str, Any], list[str]]:
    revision, full = update.get("revision"), update.get("full", False)
    resources, removed = update.get("resources", {}), update.get("removed", [])
    if not isinstance(revision, int) or isinstance(revision, bool) or revision < 0:
        raise CodecError(f"update: 'revision' must be a whole number >= 0, got {revision!r}")
    if not isinstance(full, bool):
        raise CodecError(f"update {revision}: 'full' must be true or false, got {full!r}")
    if not isinstance(resources, dict):
        raise CodecError(f"update {revision}: 'resources' must be an object")
    if not isinstance(removed, list) or not all(isinstance(name, str) for name in removed):
        raise CodecError(f"update {revision}: 'removed' must be a list of names")
    return revision, full, resources, removed


def _decode_clusters(clusters: dict[str, Cluster], resources: Mapping[str, Any], removed: list[str]) -> None:
    for name in removed:
        if name.startswith(CLUSTER_PREFIX):
            clusters.pop(name.removeprefix(CLUSTER_PREFIX), None)
    for name, value in resources.items():
        if name.startswith(CLUSTER_PREFIX):
            clusters[name.removeprefix(CLUSTER_PREFIX)] = decode_cluster(value)


def _decode_breakers(
    breakers: dict[str, CircuitBreaker], resources: Mapping[str, Any], removed: list[str]
) -> None:
    for name in removed:
        if name.startswith(BREAKER_PREFIX):
            breakers.pop(name.removeprefix(BREAKER_PREFIX), None)
    for name, value in resources.items():
        if name.startswith(BREAKER_PREFIX):
            breakers[name.removeprefix(BREAKER_PREFIX)] = decode_breaker(value)


def _turns_in_use(targets: Mapping[str, Target]) -> dict[SplitKey, Turns]:
    return {
        _place(target.destination, name): turns
        for target in targets.values()
        for name, turns in target.turns.items()
    }


def _place(destination: Destination, split: str) -> SplitKey:
    port = f"{destination.port}/udp" if destination.protocol is Protocol.UDP else str(destination.port)
    return destination.service or "", port, split


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
