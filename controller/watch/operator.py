"""Runs kopf as one task of our loop: indexes and event handlers only, so nothing is written to objects.

Publishes nothing before every kind has been listed, starts over with fresh indexes when the operator
ends for any reason, and looks for ghosts after each new listing, because kopf drops nothing that was
deleted while its watch was interrupted. What the objects mean is `index`'s business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import kopf

from controller.hub import HoldOff
from controller.kinds import WATCHED, Kind
from controller.kube import Api, KubeError
from controller.watch.descendants import Descendants
from controller.watch.index import Cluster, Index, Observed, ghosts, observe

_log = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 30.0
"""SMI objects are also looked after this often: an empty new listing announces itself by no event."""
_FIRST_PAUSE: Final = 0.2
_LAST_PAUSE: Final = 5.0
_STOP_SECONDS: Final = 5.0

Login = Callable[[], kopf.ConnectionInfo]


class Watch:
    """The cluster as it is watched. `cluster` is the last complete one; `run` keeps it so."""

    def __init__(
        self,
        login: Login,
        api: Api,
        *,
        new_cluster: Callable[[], Cluster],
        on_change: Callable[[], None],
        on_spawned: Callable[[], None] = lambda: None,
        on_restart: Callable[[], None] = lambda: None,
        kinds: tuple[Kind, ...] = WATCHED,
    ) -> None:
        """`on_spawned` is called when kopf has taken over the process's signals: take them back there."""
        self._login = login
        self._api = api
        self._new_cluster = new_cluster
        self._on_change = on_change
        self._on_spawned = on_spawned
        self._on_restart = on_restart
        self._kinds = kinds
        self.cluster: Cluster = new_cluster()
        self.waiting_for: tuple[str, ...] = ()
        """Kinds that the API server does not serve (yet); the mesh waits for them."""

    async def run(self) -> None:
        """Watch for ever; an operator that ends is started anew with growing pauses."""
        Descendants.install(asyncio.get_running_loop())
        pause = _FIRST_PAUSE
        while True:
            await self._wait_served()
            run = _Run(self._kinds, self._new_cluster(), self._adopt, self._on_change)
            try:
                await self._operate(run)
                _log.warning("the watches ended; starting them again")
            except Exception as error:  # noqa: BLE001 - kopf lets any error of any watch through
                _log.warning("the watches failed, starting them again: %s", error or type(error).__name__)
            self._on_restart()
            pause = _FIRST_PAUSE if run.cluster.complete else min(pause * 2, _LAST_PAUSE)
            await asyncio.sleep(pause)

    def _adopt(self, cluster: Cluster) -> None:
        """Every kind has been listed: from now on this is the cluster. Until then the former one stays."""
        self.cluster = cluster
        _log.info("every kind is listed")

    async def _operate(self, run: _Run) -> None:
        """One run of kopf, until any of its root tasks ends; raises what that one failed with."""
        loop, started = asyncio.get_running_loop(), Descendants()
        roots: list[asyncio.Task[Any]] = []
        try:
            with started.gathering():
                roots += await kopf.spawn_tasks(
                    registry=run.registry(self._login),
                    settings=_kopf_settings(self._kinds),
                    standalone=True,
                    clusterwide=True,
                )
                self._on_spawned()
                roots.append(loop.create_task(run.sweep(self._list_uids), name="ghost sweeps"))
            done, _ = await asyncio.wait(roots, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # Not kopf.run_tasks: it would cancel every later task of this loop, other people's included.
            left = await started.end(roots, _STOP_SECONDS, spare=_waits_for_pause)
            if left:
                _log.error("%d of kopf's tasks did not end", left)

    async def _wait_served(self) -> None:
        """Wait until every kind is served: a world without TrafficTargets would deny everything."""
        pause, told = _FIRST_PAUSE, ""
        while True:
            try:
                self.waiting_for = await self._not_served()
                trouble = ", ".join(self.waiting_for)
            except KubeError as error:
                trouble = str(error)
            if not trouble:
                return
            if trouble != told:
                _log.warning("waiting for the API server to serve every kind of the mesh: %s", trouble)
            told = trouble
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _not_served(self) -> tuple[str, ...]:
        """`plural.group/version` of every kind that discovery does not name. Raises KubeError."""
        served: set[tuple[str, str]] = set()
        for root in dict.fromkeys(kind.root for kind in self._kinds):
            try:
                answer = await self._api.get(root)
            except KubeError as error:
                if not error.absent:
                    raise
            else:
                served |= {(root, str(one.get("name"))) for one in answer.get("resources") or ()}
        missing = [kind for kind in self._kinds if (kind.root, kind.plural) not in served]
        return tuple(f"{kind.plural}.{kind.group}/{kind.version}" for kind in missing)

    async def _list_uids(self, kind: Kind) -> set[str]:
        params = {"fieldSelector": f"metadata.name={kind.name}"} if kind.name else None
        answer = await self._api.get(kind.path(), params)
        return {str((one.get("metadata") or {}).get("uid") or "") for one in answer.get("items") or ()}


def _waits_for_pause(task: asyncio.Task[Any]) -> bool:
    """kopf's streams swallow a cancellation if the task that waits for a pause has ended before them."""
    return task.get_name().startswith("pause-waiter")


def _kopf_settings(kinds: tuple[Kind, ...]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None  # it would SIGKILL us after a restart of the watches
    settings.persistence.finalizer = "smi-mesh.io/unused"
    settings.queueing.exit_timeout = 0.5
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 5.0
    settings.networking.error_backoffs = (0.1, 0.2, 0.4, 0.8, 1, 1, 2, 2)
    for kind in kinds:
        if kind.name is not None:
            selector = (kind.group, kind.version, kind.plural)
            settings.watching.field_selectors[selector] = f"metadata.name={kind.name}"
    return settings


class _Run:
    """One run of the operator: its handlers, its indexes, its ghosts."""

    def __init__(
        self,
        kinds: tuple[Kind, ...],
        cluster: Cluster,
        adopt: Callable[[Cluster], None],
        on_change: Callable[[], None],
    ) -> None:
        self.cluster = cluster
        self._kinds = kinds
        self._adopt = adopt
        self._on_change = on_change
        self._listed_first: set[tuple[str, str]] = set()
        self._listed_again: set[Kind] = set()
        self._sweeps = HoldOff(quiet=0.5, longest=2.0)

    def registry(self, login: Login) -> kopf.OperatorRegistry:
        """Handlers for every kind. A registry of its own: the default one imports client libraries."""
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, id="login")  # type: ignore[arg-type, untyped-decorator, unused-ignore] # kopf wants **kwargs typed its way
        async def log_in(**_: Any) -> kopf.ConnectionInfo:
            return login()

        for kind in self._kinds:
            self._add_handlers(registry, kind)
        return registry

    def _add_handlers(self, registry: kopf.OperatorRegistry, kind: Kind) -> None:
        where: Any = (kind.group, kind.version, kind.plural)

        @kopf.index(*where, registry=registry, id=_index_id(kind))
        async def index(body: kopf.Body, **_: Any) -> dict[str, Observed]:
            observed = observe(kind.kind, body, smi=kind.smi)
            if not self.cluster.complete:
                self._listed_first.add((kind.kind, observed.uid))
            return {f"{body.metadata.namespace or ''}/{body.metadata.name}": observed}

        @kopf.on.event(*where, registry=registry, id=f"changed-{kind.plural}")
        async def changed(type: str | None, uid: str | None, **kwargs: Any) -> None:  # noqa: A002 - kopf's name
            if not self.cluster.complete:
                # kopf calls no event handler before every kind has been listed and indexed.
                self.cluster.indexes = {one.kind: _index_of(kwargs, one) for one in self._kinds}
                self._adopt(self.cluster)
            if type is None:
                self._note_listed(kind, uid or "")
            self._on_change()

    def _note_listed(self, kind: Kind, uid: str) -> None:
        """A listed object: at the start the first listing; later a new one, which may hide deletions.

        What interrupts one watch mostly interrupts all, and a kind that lost its last object is
        silent: look at all of them.
        """
        try:
            self._listed_first.remove((kind.kind, uid))
        except KeyError:
            self._listed_again.update(self._kinds)
            self._sweeps.poke()

    async def sweep(self, list_uids: Callable[[Kind], Awaitable[set[str]]]) -> None:
        """Look for ghosts after a new listing, and of SMI kinds every now and then."""
        while True:
            try:
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._sweeps.settled()
            except TimeoutError:
                self._listed_again.update(kind for kind in self._kinds if kind.smi)
            if not self.cluster.complete:
                continue
            kinds, self._listed_again = self._listed_again, set()
            for kind in kinds:
                await self._sweep(kind, list_uids)

    async def _sweep(self, kind: Kind, list_uids: Callable[[Kind], Awaitable[set[str]]]) -> None:
        before = self.cluster.uids(kind.kind)
        try:
            found = ghosts(before, await list_uids(kind))
        except KubeError as error:
            _log.warning("listing %s again: %s; trying again later", kind.plural, error)
            self._listed_again.add(kind)
            return
        if found:
            _log.warning("%d deleted %s went unnoticed; forgetting them", len(found), kind.plural)
            self.cluster.banish(found)
            self._on_change()


def _index_id(kind: Kind) -> str:
    return f"index_{kind.plural}"


def _index_of(kwargs: dict[str, Any], kind: Kind) -> Index:
    index: Index = kwargs[_index_id(kind)]
    return index
