"""The hub: the latest World becomes the latest Snapshot, under a revision that everyone can wait for.

Pokes come from the watches, a short hold-off gathers them, the compiler runs in a thread, equal
digests are not published. Knows no Kubernetes and no proxy: those hand in `freeze` and listen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, Protocol

from controller.compile.snapshot import Snapshot
from controller.compile.world import World
from smi.findings import ObjectRef

_log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 1.0


class HoldOff:
    """Gathers pokes: `settled` returns when they stop for `quiet` seconds, at the latest after `longest`."""

    def __init__(self, quiet: float, longest: float) -> None:
        self._quiet = quiet
        self._longest = longest
        self._poked = asyncio.Event()

    def poke(self) -> None:
        self._poked.set()

    async def settled(self) -> None:
        await self._poked.wait()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._longest
        while self._poked.is_set():
            self._poked.clear()
            try:
                async with asyncio.timeout_at(min(loop.time() + self._quiet, deadline)):
                    await self._poked.wait()
            except TimeoutError:
                return


@dataclass(frozen=True, slots=True)
class Published:
    """A Snapshot and the revision it was published under."""

    revision: int
    snapshot: Snapshot
    since: Mapping[ObjectRef, int] = field(default_factory=dict)
    """SMI object → first revision that contains its present generation: what `Programmed` is about."""


class Compile(Protocol):
    """`controller.compile.compiler.compile`: pure; the second argument only saves work."""

    def __call__(self, world: World, before: Snapshot | None, /) -> Snapshot: ...


class Observer(Protocol):
    """Told how long a compilation took, and whether it was published."""

    def __call__(self, seconds: float, outcome: str, /) -> None: ...


class Hub:
    """Holds what is current. Everything but the compilation itself runs in the event loop."""

    def __init__(
        self,
        compile_world: Compile,
        *,
        quiet: float = 0.02,
        longest: float = 0.1,
        observe: Observer = lambda _seconds, _outcome: None,
    ) -> None:
        self._compile = compile_world
        self._observe = observe
        self._hold_off = HoldOff(quiet, longest)
        self._latest: Published | None = None
        self._world: World | None = None
        self._world_digest = ""
        self._listeners: dict[object, Callable[[], None]] = {}

    @property
    def latest(self) -> Published | None:
        """None until the first complete World has been compiled."""
        return self._latest

    @property
    def world(self) -> World | None:
        """The World compiled last, whether or not it changed the Snapshot; None before the first."""
        return self._world

    @property
    def revision(self) -> int:
        """0 until something is published."""
        return self._latest.revision if self._latest else 0

    def poke(self) -> None:
        """Something changed: compile soon."""
        self._hold_off.poke()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each publication; returns the function that ends it."""
        token = object()
        self._listeners[token] = callback
        return lambda: self._listeners.pop(token, None) and None

    async def wait_for(self, revision: int) -> Published:
        """The latest publication, once it is `revision` or later. Wrap it in a time-out."""
        reached = asyncio.Event()
        stop = self.listen(reached.set)
        try:
            while self._latest is None or self._latest.revision < revision:
                reached.clear()
                await reached.wait()
            return self._latest
        finally:
            stop()

    async def run(self, freeze: Callable[[], World | None]) -> None:
        """Compile after each settled burst of pokes, for ever. `freeze` gives None: not complete yet."""
        while True:
            await self._hold_off.settled()
            world = freeze()
            if world is None or world.digest == self._world_digest:
                continue
            if not await self.offer(world):
                # A compiler that fails is a bug of ours; the last Snapshot stays in force meanwhile.
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.poke)

    async def offer(self, world: World) -> bool:
        """Compile `world` and publish the outcome unless it equals the latest. False if compiling failed."""
        before = self._latest.snapshot if self._latest else None
        started = perf_counter()
        try:
            snapshot = await asyncio.to_thread(self._compile, world, before)
        except Exception:  # noqa: BLE001 - whatever it is must not stop the control plane; it is logged whole
            _log.exception("compiling failed; revision %d stays in force", self.revision)
            self._observe(perf_counter() - started, "failed")
            return False
        self._world, self._world_digest = world, world.digest
        changed = before is None or snapshot.digest != before.digest
        self._observe(perf_counter() - started, "published" if changed else "unchanged")
        if changed:
            self._publish(snapshot)
        return True

    def _publish(self, snapshot: Snapshot) -> None:
        before, revision = self._latest, self.revision + 1
        self._latest = Published(revision, snapshot, _since(before, snapshot, revision))
        _log.debug("published revision %d", revision)
        for callback in list(self._listeners.values()):
            callback()


def _since(before: Published | None, snapshot: Snapshot, revision: int) -> dict[ObjectRef, int]:
    """Carry on the first revision of every SMI object whose generation did not change."""
    known = before.snapshot.conditions if before else {}
    since = before.since if before else {}
    return {
        ref: since.get(ref, revision)
        if ref in known and (known[ref].uid, known[ref].generation) == (status.uid, status.generation)
        else revision
        for ref, status in snapshot.conditions.items()
    }
