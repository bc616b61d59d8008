"""Frozen worlds from kopf's indexes: completeness, ghosts, objects made anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kopf
import pytest

from controller.watch.index import Cluster, Observed, ghosts, observe
from smi.findings import ObjectRef
from tests.controller.compile.build import service, split

CANARY = ObjectRef("split.smi-spec.io", "TrafficSplit", "shop", "canary")


class Held(kopf.Store[Observed]):
    """kopf's store of the objects of one name."""

    def __init__(self, *objects: Observed) -> None:
        self._objects = objects

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Observed]:
        return iter(self._objects)

    def __contains__(self, obj: object) -> bool:
        return obj in self._objects


def cluster(**indexes: dict[str, Held]) -> Cluster:
    found: Any = indexes
    return Cluster("cluster.local", "cluster.local", found)


def canary(uid: str, **more: Any) -> Observed:
    obj = split("canary", "api", {"api": 1}, uid=uid) | more
    return observe("TrafficSplit", obj, smi=True)


def test_before_everything_is_listed_there_is_no_world() -> None:
    assert Cluster("cluster.local", "cluster.local").world() is None


def test_a_world_holds_what_the_indexes_hold() -> None:
    api = observe("Service", service("api", ip="10.96.0.5"), smi=False)
    seen = cluster(Service={"shop/api": Held(api)}, TrafficSplit={"shop/canary": Held(canary("1"))})
    world = seen.world()
    assert world is not None
    assert len(world.services) == len(world.splits) == 1


def test_of_two_objects_of_one_name_the_later_counts() -> None:
    seen = cluster(TrafficSplit={"shop/canary": Held(canary("old"), canary("new"))})
    found = seen.find(CANARY)
    assert found is not None
    assert found.uid == "new"
    world = seen.world()
    assert world is not None
    assert [known.uid for known in world.smi_objects] == ["new"]


def test_a_ghost_is_not_believed_in_and_forgotten_when_kopf_lets_go() -> None:
    seen = cluster(TrafficSplit={"shop/canary": Held(canary("1"))})
    seen.banish({"1", "never seen"})
    assert seen.gone == {"1"}
    assert seen.find(CANARY) is None
    world = seen.world()
    assert world is not None
    assert not world.splits
    seen.indexes["TrafficSplit"] = {}  # type: ignore[assignment] # what kopf does when the deletion arrives at last
    seen.banish(set())
    assert seen.gone == set()


@pytest.mark.parametrize(
    ("known", "listed", "gone"),
    [({"a", "b"}, {"a"}, {"b"}), ({"a"}, {"a", "new"}, set()), (set(), set(), set())],
)
def test_only_what_was_known_before_the_list_can_be_a_ghost(
    known: set[str], listed: set[str], gone: set[str]
) -> None:
    assert ghosts(known, listed) == gone


@pytest.mark.parametrize("status", [None, "text", {"conditions": "text"}, {"conditions": [1, {"type": "A"}]}])
def test_conditions_of_any_shape_are_read(status: object) -> None:
    assert canary("1", status=status).conditions in ((), ({"type": "A"},))
