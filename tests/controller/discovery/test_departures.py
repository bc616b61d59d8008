"""A pod that is about to end hears when nobody calls it any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from controller.compile.compiler import compile as compile_world
from controller.discovery.departures import Departures
from controller.discovery.proxies import Proxy
from controller.hub import Published
from tests.controller.compile.build import Obj, world_of
from tests.controller.discovery.test_server import API, Control, cluster, controlled

POD = "shop/api-0"


def published(revision: int, *, without: str = "", leaving: str = "") -> Published:
    objects: list[Obj] = [one for one in cluster() if one["metadata"]["name"] != without]
    for one in objects:
        if one["kind"] == "Pod" and one["metadata"]["name"] == leaving:
            one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return Published(revision, compile_world(world_of(objects), None))


def proxy(pod: str, revision: int, *keys: str, connected: bool = True) -> Proxy:
    return Proxy(pod, "", "", 0.0, set(keys or [API]), revision, connected=connected)


def test_it_is_withdrawn_once_all_callers_run_a_config_without_it() -> None:
    departures = Departures()
    departures.begin(POD)
    web, gone = proxy("shop/web-0", 5), published(6, without="api-0")
    assert departures.withdrawn(published(5), [web]) == []
    assert departures.withdrawn(gone, [web]) == []
    web.revision = 6
    assert departures.withdrawn(gone, [web]) == [POD]
    assert not departures


def test_the_last_pod_of_a_service_is_still_called() -> None:
    departures = Departures()
    departures.begin(POD)
    latest = published(6, leaving="api-0")
    assert [one.leaving for one in latest.snapshot.clusters["shop/api:80"]] == [True]
    assert departures.withdrawn(latest, [proxy("shop/web-0", 6)]) == []


@pytest.mark.parametrize(
    "other",
    [
        proxy("shop/web-0", 5, connected=False),  # cannot be told
        proxy("shop/web-0", 0),  # has no config yet
        proxy(POD, 5),  # the pod itself
        proxy("shop/old-0", 5),  # a pod that is gone
        Proxy("shop/web-0", "", "", 0.0, set(), 5),  # calls nobody
    ],
)
def test_who_is_not_waited_for(other: Proxy) -> None:
    departures = Departures()
    departures.begin(POD)
    assert departures.withdrawn(published(6, without="api-0"), [other]) == [POD]


def test_a_pod_that_is_called_again_begins_anew() -> None:
    departures = Departures()
    departures.begin(POD)
    web = proxy("shop/web-0", 5)
    assert departures.withdrawn(published(6, without="api-0"), [web]) == []
    web.revision = 7
    assert departures.withdrawn(published(7), [web]) == []
    assert departures.withdrawn(published(8, without="api-0"), [web]) == []


def test_who_has_gone_is_forgotten() -> None:
    departures = Departures()
    departures.begin(POD)
    departures.forget(POD)
    departures.forget(POD)
    assert departures.withdrawn(published(6, without="api-0"), []) == []


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    async with controlled() as made:
        yield made


async def test_over_real_streams(control: Control) -> None:
    await control.publish()
    async with await control.proxy() as web, await control.proxy("shop/api-0", "api") as api:
        web.hello("shop/web-0", API)
        await web.update()
        api.hello("shop/api-0")
        await api.update()
        api.say(type="leaving")
        objects = [
            one for one in cluster() if (one["kind"], one["metadata"]["name"]) != ("EndpointSlice", "api-1")
        ]
        pod = next(one for one in objects if one["metadata"]["name"] == "api-0")
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        assert await control.hub.offer(world_of(objects))
        told = await web.hear()
        assert told["resources"]["cluster/shop/api:80"] == []
        assert (await api.hear())["type"] == "update"
        waiting = asyncio.get_running_loop().create_task(api.hear())
        assert not waiting.done()
        web.say(type="ack", revision=told["revision"])
        assert await waiting == {"type": "withdrawn"}
