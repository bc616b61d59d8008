"""Discovery over real TLS sockets: who gets in, what is sent, what a bad or slow client costs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from controller.ca.authority import Authority
from controller.ca.policy import Names, controller_names
from controller.ca.serving import ServingCertificate
from controller.compile.compiler import compile as compile_world
from controller.compile.snapshot import Snapshot
from controller.compile.world import World
from controller.discovery.proxies import Proxies
from controller.discovery.server import DiscoveryServer
from controller.hub import Compile, Hub
from controller.metrics import Metrics
from smi.names import NamespacedName
from smi.policy.snapshot import Endpoint
from tests.controller.compile.build import namespace, split, workload, world_of
from tests.controller.discovery.streams import ProxyEnd
from tests.controller.pki import TRUST_DOMAIN, client_context, now, opened_authority, pod_names

Obj = dict[str, Any]
API = "10.96.0.5:80"


def cluster(*more: Obj) -> list[Obj]:
    return [
        namespace(),
        *workload("web", "10.1.0.1"),
        *workload("api", "10.1.0.2", cluster_ip="10.96.0.5"),
        *workload("api-v1", "10.1.0.3", cluster_ip="10.96.0.6"),
        *workload("api-v2", "10.1.0.4", cluster_ip="10.96.0.7"),
        *more,
    ]


def canary(first: int, second: int, generation: int = 1) -> Obj:
    return split("canary", "api", {"api-v1": first, "api-v2": second}, generation=generation)


@dataclass
class Control:
    """A running discovery server."""

    hub: Hub
    proxies: Proxies
    authority: Authority
    port: int

    def context(self, names: Names | None) -> ssl.SSLContext:
        return client_context(self.authority, names)

    async def proxy(self, pod: str = "shop/web-0", account: str = "web") -> ProxyEnd:
        return await ProxyEnd.open(self.port, self.context(pod_names(pod, account)))

    async def publish(self, *more: Obj) -> None:
        assert await self.hub.offer(world_of(cluster(*more)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is of the code under test, which tells nobody
            await asyncio.sleep(0.002)


@asynccontextmanager
async def controlled(
    compile_function: Compile = compile_world, dead_seconds: float = 30.0
) -> AsyncIterator[Control]:
    authority = await opened_authority()
    names = controller_names(TRUST_DOMAIN, "smi-mesh-system", "smi-mesh-controller", "cluster.local", ())
    serving = ServingCertificate(authority, names, now, lambda: 0.5)
    hub, proxies = Hub(compile_function), Proxies()
    server = DiscoveryServer(hub, proxies, Metrics(), TRUST_DOMAIN, dead_seconds=dead_seconds)
    port = await server.start("127.0.0.1", 0, serving.context(clients=True))
    try:
        yield Control(hub, proxies, authority, port)
    finally:
        await server.stop()


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    async with controlled() as running:
        yield running


async def test_the_first_update_is_full_and_later_ones_are_differences(control: Control) -> None:
    await control.publish(canary(100, 0))
    async with await control.proxy() as proxy:
        proxy.hello("shop/web-0", API)
        first = await proxy.update()
        assert first["full"] is True
        assert first["revision"] == 1
        clusters = {"cluster/shop/api:80", "cluster/shop/api-v1:80", "cluster/shop/api-v2:80"}
        assert set(first["resources"]) == {"inbound", f"destination/{API}", *clusters}
        await control.publish(canary(90, 10, generation=2))
        second = await proxy.update()
        assert (second["full"], second["revision"]) == (False, 2)
        assert set(second["resources"]) == {f"destination/{API}"}
        await until(lambda: next(iter(control.proxies)).revision == 2)


async def test_a_revision_that_changes_nothing_for_a_proxy_is_announced(control: Control) -> None:
    await control.publish(canary(100, 0))
    async with await control.proxy() as proxy:
        proxy.hello("shop/web-0")
        await proxy.update()
        await control.publish(canary(50, 50, generation=2))
        update = await proxy.update()
        assert update["revision"] == 2
        assert (update["resources"], update["removed"]) == ({}, [])


async def test_every_subscription_is_answered_even_twice_and_unknown(control: Control) -> None:
    await control.publish()
    async with await control.proxy() as proxy:
        proxy.hello("shop/web-0")
        await proxy.update()
        for keys in (["1.2.3.4:99"], [API], [API, "api:80"]):
            proxy.say(type="subscribe", keys=keys)
            answer = await proxy.update()
            assert {f"destination/{key}" for key in keys} <= set(answer["resources"])
            assert answer["revision"] == 1
        proxy.say(type="unsubscribe", keys=[API, "api:80"])
        gone = await proxy.update()
        assert set(gone["removed"]) == {f"destination/{API}", "destination/api:80", "cluster/shop/api:80"}


async def test_a_quick_unsubscribe_and_subscribe_is_answered(control: Control) -> None:
    await control.publish()
    async with await control.proxy() as proxy:
        proxy.hello("shop/web-0", API)
        await proxy.update()
        proxy.say(type="unsubscribe", keys=[API])
        proxy.say(type="subscribe", keys=[API])
        answer = await proxy.update()
        while f"destination/{API}" not in answer["resources"]:
            answer = await proxy.update()


async def test_nothing_is_sent_before_the_first_complete_snapshot(control: Control) -> None:
    async with await control.proxy() as proxy:
        proxy.hello("shop/web-0", API)
        proxy.say(type="ping")
        assert (await proxy.hear())["type"] == "pong"
        await control.publish()
        assert (await proxy.update())["full"] is True


async def test_a_pod_not_seen_yet_waits_and_one_that_is_gone_keeps_its_config(control: Control) -> None:
    new = workload("late", "10.1.0.9")
    await control.publish()
    async with await control.proxy("shop/late-0", "late") as proxy:
        proxy.hello("shop/late-0")
        await control.publish(*new)
        assert (await proxy.update())["full"] is True
        await control.publish()
        proxy.say(type="ping")
        assert (await proxy.hear())["type"] == "pong"


async def test_after_a_refusal_everything_is_sent_again(control: Control) -> None:
    await control.publish(canary(100, 0))
    async with await control.proxy() as proxy:
        proxy.hello("shop/web-0", API)
        await proxy.hear()
        proxy.say(type="nack", revision=1, error="cannot read it")
        await until(lambda: next(iter(control.proxies)).nack == "revision 1: cannot read it")
        await control.publish(canary(90, 10, generation=2))
        assert (await proxy.update())["full"] is True
        await until(lambda: next(iter(control.proxies)).nack is None)


@pytest.mark.parametrize(
    ("names", "claim", "why"),
    [
        (pod_names("shop/api-0", "api"), "shop/web-0", "not that of pod"),
        (pod_names("shop/web-0", "web"), "other/web-0", "no identity of namespace"),
        (
            Names("spiffe://elsewhere/ns/shop/sa/web", pod_names("shop/web-0", "web").dns),
            "shop/web-0",
            "elsewhere",
        ),
        (pod_names("shop/web-0", "api"), "shop/web-0", "runs as"),
    ],
    ids=["another pod", "another namespace", "another trust domain", "another service account"],
)
async def test_a_claim_must_match_the_certificate(
    control: Control, names: Names, claim: str, why: str
) -> None:
    await control.publish()
    async with await ProxyEnd.open(control.port, control.context(names)) as proxy:
        proxy.hello(claim)
        answer = await proxy.hear()
        assert answer["type"] == "error"
        assert why in answer["message"]
        assert await proxy.ended()


async def test_without_a_certificate_of_our_ca_there_is_no_stream(control: Control) -> None:
    stranger = await opened_authority()
    foreign = client_context(stranger, pod_names("shop/web-0", "web"))
    foreign.load_verify_locations(cadata=control.authority.bundle)
    for context in (control.context(None), foreign):
        async with await ProxyEnd.open(
            control.port, context
        ) as proxy:  # TLS 1.3: refused after the client's part
            proxy.hello("shop/web-0")
            assert await proxy.ended()
    assert not list(control.proxies)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b'{"type":"ping"}\n',
        b"x" * (1 << 20) + b"xx\n",
        b'{"type":"hello","protocol":9,"pod":"a/b"}\n',
    ],
    ids=["no JSON", "no hello first", "too long", "other protocol"],
)
async def test_a_bad_first_message_ends_the_stream(control: Control, line: bytes) -> None:
    async with await control.proxy() as proxy:
        proxy.writer.write(line)
        assert (await proxy.hear())["type"] == "error"
        assert await proxy.ended()


async def test_a_silent_client_is_given_up() -> None:
    async with controlled(dead_seconds=0.2) as control:
        await control.publish()
        async with await control.proxy() as proxy:
            proxy.hello("shop/web-0")
            assert (await proxy.hear())["type"] == "update"
            assert await proxy.ended()
            await until(lambda: not control.proxies.connected)


async def test_a_second_stream_of_a_pod_takes_over(control: Control) -> None:
    await control.publish()
    async with await control.proxy() as first, await control.proxy() as second:
        first.hello("shop/web-0")
        await first.update()
        second.hello("shop/web-0")
        await second.update()
        assert await first.ended()
        await until(lambda: control.proxies.connected == 1)


def compile_padded(world: World, before: Snapshot | None, /) -> Snapshot:
    """A cluster of 3000 endpoints, other ones with each generation of the split: 200 kB an update."""
    snapshot = compile_world(world, before)
    port = world.splits[NamespacedName("shop", "canary")].generation
    endpoints = tuple(Endpoint(f"10.{n >> 8}.{n & 255}.1", port, "shop/p", "spiffe://x") for n in range(3000))
    return replace(snapshot, clusters={**snapshot.clusters, "shop/api:80": endpoints})


async def test_a_proxy_that_does_not_read_gets_only_what_is_latest() -> None:
    """Far more updates than the kernel buffers: most are never made for this proxy."""
    async with controlled(compile_padded) as control:
        await control.publish(canary(1, 1, generation=1))
        async with await control.proxy() as proxy:
            proxy.writer.transport.pause_reading()  # type: ignore[attr-defined] # typed as a writing half
            proxy.hello("shop/web-0", API)
            for generation in range(2, 101):
                await control.publish(canary(1, 1, generation))
            proxy.writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
            seen = [(await proxy.update())["revision"]]
            while seen[-1] < 100:
                seen.append((await proxy.update())["revision"])
            assert seen == sorted(set(seen))
            assert len(seen) < 60
