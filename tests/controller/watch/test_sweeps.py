"""When ghosts are looked for: after a listing that is not the first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller.kinds import BY_NAME, Kind
from controller.kube import KubeError
from controller.tasks import Tasks
from controller.watch.index import Cluster
from controller.watch.operator import _Run
from tests.controller.watch.test_index import Held, canary

SPLIT = BY_NAME["TrafficSplit"]


class Listing:
    """A run of the watches whose API server holds `uids`, and a count of what has changed."""

    def __init__(self) -> None:
        self.uids = {"1", "2"}
        self.fails = 0
        self.asked = 0
        self.changed = asyncio.Event()
        cluster = Cluster("cluster.local", "cluster.local")
        self.run = _Run((SPLIT,), cluster, lambda _: None, self.changed.set)
        self.run._sweeps._quiet = 0.001
        self.run._listed_first = {("TrafficSplit", "1"), ("TrafficSplit", "2")}
        index: Any = {f"shop/{uid}": Held(canary(uid)) for uid in self.uids}
        cluster.indexes = {"TrafficSplit": index}

    async def list_uids(self, kind: Kind) -> set[str]:
        self.asked += 1
        if self.asked <= self.fails:
            raise KubeError(0, "Unreachable", "not now")
        return set(self.uids)


@pytest.fixture
async def listing() -> AsyncIterator[Listing]:
    found, tasks = Listing(), Tasks()
    tasks.start("sweeps", found.run.sweep(found.list_uids))
    yield found
    await tasks.cancel()


async def test_the_first_listing_is_no_reason_to_look(listing: Listing) -> None:
    for uid in ("1", "2"):
        listing.run._note_listed(SPLIT, uid)
    await asyncio.sleep(0.02)
    assert listing.asked == 0


async def test_a_new_listing_uncovers_what_was_deleted_meanwhile(listing: Listing) -> None:
    for uid in ("1", "2"):
        listing.run._note_listed(SPLIT, uid)
    listing.uids = {"1"}
    listing.run._note_listed(SPLIT, "1")
    async with asyncio.timeout(5):
        await listing.changed.wait()
    assert listing.run.cluster.gone == {"2"}
    world = listing.run.cluster.world()
    assert world is not None
    assert [one.uid for one in world.smi_objects] == ["1"]
