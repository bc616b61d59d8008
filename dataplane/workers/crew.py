"""The first process's side of its workers: starts them, feeds them, counts with them, ends them.

A worker that ends is replaced. It is told the certificate and the config in force, then every
update that the config stream brings; what it asks for is subscribed to here. So the controller sees
one proxy with one certificate, however many processes serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from dataplane.control.backoff import Backoff
from dataplane.control.discovery import Discovery
from dataplane.control.identity import Identity
from dataplane.control.tapping import follow
from dataplane.counts import Readings, add
from dataplane.serve import Intercepted
from dataplane.settings import Settings
from dataplane.state import DESTINATION_PREFIX, NotKnown, State
from dataplane.tasks import Tasks
from dataplane.telemetry import Telemetry
from dataplane.workers.link import Link, Message
from dataplane.workers.taps import Relay

COLLECT_SECONDS: Final = 1.0
"""A scrape does not wait longer for a worker; its counts come with the next one."""
STEADY_SECONDS: Final = 10.0
"""A worker that lived for so long is replaced at once, others with growing delays."""
_FIRST_DELAY: Final = 0.1
_LAST_DELAY: Final = 5.0
_AFTER_DRAIN: Final = 5.0
"""Seconds beyond draining after which a worker is killed."""

_log = logging.getLogger("dataplane.workers")


class Crew:
    """The workers. `start` once, `collect` before their counts are read, `drain` at the end."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        telemetry: Telemetry,
        identity: Identity,
        discovery: Discovery,
        chance: Callable[[], float],
        intercepted: Sequence[Intercepted],
    ) -> None:
        """`intercepted`: the sockets of UDP interception of each worker; empty without it."""
        self._settings = settings
        self._state = state
        self._telemetry = telemetry
        self._identity = identity
        self._chance = chance
        self._intercepted = intercepted
        self._readings = Readings(telemetry)
        self._members: dict[int, _Member] = {}
        self._tasks = Tasks()
        self._ending = False
        self._changed = asyncio.Event()
        self._restarts = telemetry.counter(
            "smi_mesh_worker_restarts_total", "Worker processes that ended and were replaced.", ("worker",)
        )
        telemetry.gauge("smi_mesh_workers", "Workers that serve.", (), lambda: [((), self.serving)])
        self._taps = Relay(self._tell, discovery.say, time.time)
        follow(discovery, self._taps)
        identity.on_renewal(self._renewed)
        discovery.on_update(self._updated)
        state.on_subscriptions(self._given_up)

    @property
    def serving(self) -> int:
        """Workers whose listeners are open."""
        return sum(member.serving for member in self._members.values())

    def start(self) -> None:
        """Start every worker, and go on replacing those that end."""
        for number in range(self._settings.workers):
            self._tasks.start(f"worker {number}", self._keep(number))

    async def all_serving(self) -> None:
        """Return once every worker has its listeners open."""
        while self.serving < self._settings.workers:
            self._changed.clear()
            await self._changed.wait()

    async def collect(self) -> None:
        """Have everything counted that the workers have counted so far."""
        waiting = [member.asked() for member in self._members.values() if member.serving]
        if waiting:
            await asyncio.wait(waiting, timeout=COLLECT_SECONDS)

    def keep_used(self) -> None:
        """What any worker is subscribed to is in use; to be called before each sweep of the state."""
        for member in self._members.values():
            self._want(member.keys)

    async def drain(self, seconds: float) -> None:
        """Have every worker finish what it serves within `seconds`, then end it."""
        self._ending = True
        members = list(self._members.values())
        for member in members:
            member.end()
        ended = [self._tasks.start("end of a worker", member.ended()) for member in members]
        if ended:
            _, late = await asyncio.wait(ended, timeout=seconds + _AFTER_DRAIN)
            if late:
                _log.warning("%d workers did not end and are killed", len(late))
        await self._tasks.cancel()

    async def _keep(self, number: int) -> None:
        backoff = Backoff(_FIRST_DELAY, _LAST_DELAY, self._chance)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            exit_code = await self._one(number)
            if self._ending:
                return
            self._restarts.add((str(number),))
            _log.error("worker %d ended with %d and is replaced", number, exit_code)
            if loop.time() - began >= STEADY_SECONDS:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _one(self, number: int) -> int:
        """The life of one process; its exit code, negative for a signal's number."""
        ours, theirs = socket.socketpair()
        link = Link(ours)
        await link.open()
        sockets = [theirs]
        if self._intercepted:
            mine = self._intercepted[number]
            sockets += [mine.outbound, mine.inbound, mine.raw]
        descriptors = [sock.fileno() for sock in sockets]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "dataplane",
                "--worker",
                f"{self._settings.workers}:{','.join(map(str, descriptors))}",
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        except OSError as error:
            _log.error("worker %d cannot be started: %s", number, error)
            link.close()
            return 1
        finally:
            theirs.close()
        member = self._members[number] = _Member(process, link)
        try:
            self._brief(member)
            await link.receive(lambda message: self._take(number, member, message))
            return await member.ended()
        finally:
            member.kill()
            self._members.pop(number, None)
            self._readings.forget(number)
            member.gone()
            self._changed.set()

    # --- what workers are told -----------------------------------------------------------------------

    def _brief(self, member: _Member) -> None:
        """A new worker has no subscriptions yet: all it needs is its identity and the inbound policy."""
        material = self._identity.material
        if material is not None:
            member.link.send("identity", **material)
        if self._state.inbound is not None:
            resources = self._state.resources(())
            member.link.send("update", revision=self._state.revision, full=True, resources=resources)
        for order in self._taps.running():
            member.link.send("tap", **order)

    def _tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        for member in self._members.values():
            member.link.send(kind, **fields)

    def _renewed(self, material: Mapping[str, Any]) -> None:
        for member in self._members.values():
            member.link.send("identity", **material)

    def _updated(self, update: Mapping[str, Any]) -> None:
        for member in self._members.values():
            member.link.send("update", **{name: value for name, value in update.items() if name != "type"})

    def _given_up(self, _added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        """Nobody is told of changes to these any more: a worker that needs one must ask again."""
        names = [DESTINATION_PREFIX + key for key in removed]
        for member in self._members.values() if names else ():
            member.keys.difference_update(removed)
            member.link.send("update", revision=self._state.revision, removed=names)

    # --- what workers say ----------------------------------------------------------------------------

    def _take(self, number: int, member: _Member, message: Message) -> None:
        match message["type"]:
            case "subscribe":
                self._subscribe(member, message["keys"])
            case "unsubscribe":
                member.keys.difference_update(message["keys"])
            case "serving":
                member.serving = True
                self._changed.set()
            case "counts":
                add(self._telemetry, message["counts"])
                self._readings.note(number, message["counts"])
                member.gone()
            case "tapped":
                self._taps.seen(message)

    def _subscribe(self, member: _Member, keys: Sequence[str]) -> None:
        member.keys.update(keys)
        known = self._want(keys)
        if known:
            member.link.send("update", revision=self._state.revision, resources=self._state.resources(known))

    def _want(self, keys: Iterable[str]) -> list[str]:
        """Subscribe to these keys; those that are known already."""
        known = []
        for key in keys:
            try:
                if self._state.subscribe(key):
                    known.append(key)
            except (
                NotKnown
            ) as refusal:  # too many; the worker's wait for the answer ends, the next sweep asks again
                _log.warning("%s is not subscribed to: %s", key, refusal)
        return known


class _Member:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process, link: Link) -> None:
        self.link = link
        self.keys: set[str] = set()
        """What it is subscribed to."""
        self.serving = False
        self._process = process
        self._asked: asyncio.Future[None] | None = None

    def asked(self) -> asyncio.Future[None]:
        """Ask for its counts; done when they are here, or when it is gone."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            self.link.send("count")
        return self._asked

    def gone(self) -> None:
        """There is nothing (more) to wait for."""
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(None)

    def end(self) -> None:
        """Ask it to drain and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def ended(self) -> int:
        return await self._process.wait()
