"""What no endpoint has seen waits here for one that can be tried (S33).

Config is a little behind the pods: one that ends may be gone before its successor is known, and one that
has just begun may be known before its app listens. Waiting ends with new config that says where to go, or
after a pause in which whoever refused may have begun to listen, or for good (`core.patience`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from dataplane.core.outbound import NoRoute, Plan, Router
from dataplane.core.patience import Patience, pause
from dataplane.serve.gate import Serving
from dataplane.state import State
from dataplane.wire.http1 import RequestHead
from smi.policy.snapshot import Destination

MAX_TURNS: Final = 16
"""Times one request may wait: the patience of several outages in a row is bounded, too."""


class Hold:
    """The waiting requests and opaque connections of one proxy, at most `limits.held`."""

    def __init__(self, serving: Serving, state: State, router: Router) -> None:
        self._loop = serving.loop
        self._limits = serving.limits
        self._state = state
        self._router = router
        self._patience = Patience(serving.limits.hold)
        self._waiting: set[asyncio.Future[None]] = set()
        state.on_update(self._updated)

    def __len__(self) -> int:
        return len(self._waiting)

    def admits(self, plan: Plan, turn: int) -> bool:
        """Whether what `plan` did not bring to its endpoint may wait, for the `turn`-th time (from 0)."""
        # Other destinations are not kept up to date by the controller.
        return plan.cluster != "" and turn < MAX_TURNS and len(self._waiting) < self._limits.held

    async def another(
        self, head: RequestHead | None, key: str, plan: Plan, tried: Sequence[Plan], turn: int
    ) -> Plan | None:
        """The plan to try next for what was meant for `key` and reached none of `tried`; None: give up.

        `head` None: an opaque connection.
        """
        now = self._loop.time()
        until = self._patience.until(plan.cluster, self._state.cluster(plan.cluster), now)
        retry = now + pause(turn)
        at_once = turn == 0  # or many endpoints that all refuse would be stormed by every request
        while True:
            if at_once or now >= retry:
                other = self._router.another(plan, tried) or self._elsewhere(head, key, plan, tried)
                if other is None and now >= retry:
                    other = self._router.another(plan, ())
                    retry = until
                if other is not None:
                    return other
            if now >= until:
                return None
            at_once = await self._change(min(retry, until))
            now = self._loop.time()

    async def _change(self, until: float) -> bool:
        """Return when there is new config (True), at the latest at `until`."""
        changed: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(changed)
        try:
            async with asyncio.timeout_at(until):
                await changed
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(changed)
        return True

    def _elsewhere(
        self, head: RequestHead | None, key: str, plan: Plan, tried: Sequence[Plan]
    ) -> Plan | None:
        """Choose a backend again where the one of `plan` has no endpoint or no weight any more."""
        target = self._state.lookup(key)
        if target is None or target.destination.cluster is None:
            return None
        if self._state.cluster(plan.cluster) and _still_chosen(target.destination, plan):
            return None
        found = self._router.plan(target, head)
        if isinstance(found, NoRoute) or any(found.load is one.load for one in tried):
            return None
        return found

    def _updated(self) -> None:
        for changed in self._waiting:
            if not changed.done():
                changed.set_result(None)


def _still_chosen(destination: Destination, plan: Plan) -> bool:
    """Whether the config still sends calls to the cluster of `plan`."""
    if not plan.split:
        return destination.cluster == plan.cluster
    return any(
        backend.cluster == plan.cluster and backend.weight > 0
        for split in destination.splits
        if split.name == plan.split
        for backend in split.backends
    )
