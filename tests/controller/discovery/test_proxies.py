"""Who is concerned by an object, and how many of them run it."""

from __future__ import annotations

from controller.discovery.proxies import Progress, Proxies, Proxy
from smi.findings import ObjectRef
from tests.controller.compile.build import namespace, route_group, snapshot_of, split, target, workload

SNAPSHOT = snapshot_of(
    namespace(),
    *workload("web", "10.1.0.1"),
    *workload("api", "10.1.0.2", cluster_ip="10.96.0.5"),
    *workload("v1", "10.1.0.3", cluster_ip="10.96.0.6"),
    split("canary", "api", {"v1": 1}),
    route_group("all", {"name": "any", "pathRegex": ".*", "methods": ["*"]}),
    target("open", "api", ["web"], [{"kind": "HTTPRouteGroup", "name": "all"}]),
)
CANARY = SNAPSHOT.conditions[ObjectRef("split.smi-spec.io", "TrafficSplit", "shop", "canary")]
OPEN = SNAPSHOT.conditions[ObjectRef("access.smi-spec.io", "TrafficTarget", "shop", "open")]


def proxy(pod: str, *keys: str) -> Proxy:
    return Proxy(pod, "spiffe://x", "test", 0.0, set(keys))


def test_a_split_concerns_its_subscribers_and_a_target_its_destination() -> None:
    proxies = Proxies()
    web, api = proxy("shop/web-0", "10.96.0.5:80", "unknown:1"), proxy("shop/api-0")
    for one in (web, api):
        proxies.connect(one)
        proxies.acknowledge(one, 3)
    progress = proxies.progress(SNAPSHOT)
    assert progress(CANARY, 3) == Progress(1, 1)
    assert progress(OPEN, 3) == Progress(1, 1)
    assert progress(CANARY, 4) == Progress(0, 1)
    proxies.acknowledge(web, 4)
    assert progress(CANARY, 4) == Progress(1, 1)
    assert progress(OPEN, 4) == Progress(0, 1)


def test_a_new_proxy_counts_once_it_runs_something_a_returning_one_at_once() -> None:
    proxies = Proxies()
    first = proxy("shop/api-0")
    proxies.connect(first)
    assert proxies.progress(SNAPSHOT)(OPEN, 1) == Progress(0, 0)
    proxies.acknowledge(first, 1)
    assert proxies.progress(SNAPSHOT)(OPEN, 1) == Progress(1, 1)
    proxies.disconnect(first)
    assert proxies.progress(SNAPSHOT)(OPEN, 2) == Progress(0, 1), "it goes on with what it had"
    assert proxies.connect(proxy("shop/api-0")) is None
    assert proxies.progress(SNAPSHOT)(OPEN, 1) == Progress(0, 1)


def test_a_refusal_is_named_until_something_is_accepted() -> None:
    proxies, api = Proxies(), proxy("shop/api-0")
    proxies.connect(api)
    proxies.refuse(api, 2, "no such field")
    assert proxies.progress(SNAPSHOT)(OPEN, 1) == Progress(0, 1, ("shop/api-0: revision 2: no such field",))
    proxies.acknowledge(api, 3)
    assert proxies.progress(SNAPSHOT)(OPEN, 1) == Progress(1, 1)


def test_who_is_forgotten() -> None:
    proxies, changes = Proxies(), []
    proxies.on_change = lambda: changes.append(1)
    gone, here = proxy("shop/web-0"), proxy("shop/api-0")
    proxies.connect(gone)
    proxies.connect(here)
    proxies.disconnect(gone)
    assert (proxies.connected, len(changes)) == (1, 3)
    proxies.forget_absent({"shop/web-0"})
    assert len(list(proxies)) == 2
    proxies.forget_absent(set())
    assert list(proxies) == [here], "an open stream is kept whatever the world says"
