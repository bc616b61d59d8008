"""The whole controller against a real API server: what its users and proxies see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from dataplane.control.keys import make_key_and_request
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.server import ApiServer
from smi.findings import ObjectRef
from tests.controller.compile.build import route_group, split, target, tcp_route
from tests.controller.pki import pod_names
from tests.controller.running import Running, account, namespace, service, started, until

SPLITS = "trafficsplits.split.smi-spec.io"
API = "10.96.7.5:80"


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Running]:
    async with started(tmp_path) as running:
        await running.create(namespace("shop", inject="enabled"))
        for number, name in enumerate(("api", "api-v1", "api-v2"), start=5):
            await running.create(service(name, f"10.96.7.{number}"))
        for name in ("web", "api"):
            await running.create(account(name))
        yield running


def named(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "shop"}}


def canary(first: int, second: int) -> dict[str, object]:
    return split("canary", "api", {"api-v1": first, "api-v2": second}) | named("canary")


async def test_a_weight_change_reaches_the_proxy_and_then_the_status(mesh: Running) -> None:
    """How fast is measured where nothing else runs (`smi-mesh demo`); every wait here has a deadline."""
    await mesh.meshed_pod("web-0", "web", "10.1.0.1")
    await mesh.create(canary(100, 0))
    async with await mesh.proxy(pod_names("shop/web-0", "web")) as proxy:
        proxy.hello("shop/web-0", API)
        # Acknowledged as a proxy does: the first update may come from before the split was seen.
        while "canary" not in str((await proxy.update()).get("resources", {})):
            pass
        await mesh.wait_condition("TrafficSplit", "canary", "Programmed", "True", 1)

        backends = [{"service": "api-v1", "weight": 90}, {"service": "api-v2", "weight": 10}]
        await mesh.api.patch(SPLITS, "shop", "canary", {"spec": {"backends": backends}})
        update = await proxy.hear()
        while "90" not in str(update.get("resources", {}).get(f"destination/{API}")):
            proxy.say(type="ack", revision=update["revision"])
            update = await proxy.hear()
        said = await mesh.wait_condition("TrafficSplit", "canary", "Programmed", "False", 2)
        assert said["message"] == "0 of 1 proxies run this generation"
        proxy.say(type="ack", revision=update["revision"])
        said = await mesh.wait_condition("TrafficSplit", "canary", "Programmed", "True", 2)
        assert said["message"] == "1 of 1 proxies run this generation"


async def test_findings_become_conditions_and_events_once(mesh: Running) -> None:
    await mesh.create(split("lonely", "nobody", {"api-v1": 1}) | named("lonely"))
    said = await mesh.wait_condition("TrafficSplit", "lonely", "ResolvedRefs", "False", 1)
    assert said["reason"] == "RootNotFound"

    async def events() -> list[dict[str, object]]:
        found: list[dict[str, object]] = await mesh.api.list("events", "shop")
        return [one for one in found if one["involvedObject"]["name"] == "lonely"]  # type: ignore[index] # JSON

    told = await until(events)
    assert {one["reason"] for one in told} == {"RootNotFound"}
    before = mesh.controller.hub.revision
    await mesh.create(service("other", "10.96.7.99"))
    await mesh.controller.hub.wait_for(before + 1)
    assert len(await events()) == len(told)


async def test_kopf_writes_nothing_to_users_objects(mesh: Running) -> None:
    made = await mesh.create(tcp_route("db", 5432) | named("db"))
    await mesh.wait_condition("TCPRoute", "db", "Accepted", "True", 1)
    route = await mesh.get("TCPRoute", "shop", "db")
    assert route["metadata"] | {"resourceVersion": ""} == made["metadata"] | {"resourceVersion": ""}
    found = await mesh.api.get("services", "shop", "api")
    assert "annotations" not in found["metadata"]
    assert "finalizers" not in found["metadata"]


async def test_pods_are_injected_by_the_api_server(mesh: Running) -> None:
    pod = await mesh.meshed_pod("web-0", "web", "10.1.0.1")
    names = [one["name"] for one in pod["spec"]["initContainers"]]
    assert names == ["smi-mesh-init", "smi-mesh-proxy"]
    assert pod["metadata"]["labels"]["smi-mesh.io/meshed"] == "true"
    bundle = {one["name"]: one.get("value") for one in pod["spec"]["initContainers"][1]["env"]}
    assert bundle["SMI_MESH_TRUST_BUNDLE"] == mesh.controller.authority.bundle


async def test_invalid_objects_are_refused_with_the_field(mesh: Running) -> None:
    group = route_group("bad", {"name": "m", "pathRegex": "(", "methods": ["GET"]}) | named("bad")
    with pytest.raises(ApiError, match=r"matches\[0\]\.pathRegex"):
        await mesh.create(group)


async def test_an_object_is_converted_to_every_version(mesh: Running) -> None:
    await mesh.create(canary(75, 25))
    async with aiohttp.ClientSession() as session:
        info = mesh.controller.kube._login()
        for version in ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"):
            url = f"{info.server}/apis/split.smi-spec.io/{version}/namespaces/shop/trafficsplits/canary"
            headers = info.as_http_headers()
            async with session.get(url, ssl=info.as_ssl_context(), headers=headers) as response:
                obj = await response.json()
            assert obj["apiVersion"] == f"split.smi-spec.io/{version}"
            assert len(obj["spec"]["backends"]) == 2


async def test_a_pod_gets_a_certificate_for_its_token_only(mesh: Running) -> None:
    pod = await mesh.meshed_pod("web-0", "web", "10.1.0.1")
    _, request = make_key_and_request()
    status, answer = await mesh.sign(request.decode(), mesh.token(pod))
    assert status == 200, answer
    leaf = x509.load_pem_x509_certificate(answer["certificates"].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/shop/sa/web"
    ]
    assert names.get_values_for_type(x509.DNSName) == [
        "web-0.shop.pod.smi-mesh.internal",
        "v1.version.smi-mesh.internal",
    ]
    assert answer["trust_bundle"] == mesh.controller.authority.bundle
    for csr, token in (
        (request.decode(), "not a token"),
        (request.decode(), mesh.token(pod, audience="somebody-else")),
        ("not a request", mesh.token(pod)),
    ):
        status, answer = await mesh.sign(csr, token)
        assert (status, set(answer)) == (403, {"error"})
        assert token not in answer["error"]


async def test_an_api_server_restart_changes_nothing_and_what_came_after_it_is_seen(mesh: Running) -> None:
    await mesh.create(canary(100, 0))
    await mesh.create(target("open", "api", ["web"], [{"kind": "TCPRoute", "name": "db"}]) | named("open"))
    await mesh.wait_condition("TrafficTarget", "open", "Accepted", "False", 1)
    before = mesh.controller.hub.revision

    async def delete_behind_its_back(hidden: ApiServer) -> None:
        await hidden.api.delete(SPLITS, "shop", "canary")

    await mesh.restart_server(delete_behind_its_back)
    await mesh.create(tcp_route("db", 5432) | named("db"))
    await mesh.wait_condition("TrafficTarget", "open", "Accepted", "True", 1)
    gone = ObjectRef("split.smi-spec.io", "TrafficSplit", "shop", "canary")

    async def forgotten() -> bool:
        latest = mesh.controller.hub.latest
        assert latest is not None
        # At no time a world without the rest: that would be a partial listing.
        assert len(latest.snapshot.made_from.world.services) >= 3
        return gone not in latest.snapshot.conditions

    await until(forgotten)
    assert mesh.controller.hub.revision > before


async def test_the_admin_endpoints(mesh: Running) -> None:
    await mesh.meshed_pod("web-0", "web", "10.1.0.1")
    async with (
        await mesh.proxy(pod_names("shop/web-0", "web")) as proxy,
        aiohttp.ClientSession(f"http://127.0.0.1:{mesh.controller.ports['admin']}") as session,
    ):
        proxy.hello("shop/web-0", API)
        await proxy.update()

        async def acknowledged() -> dict[str, object] | None:
            async with session.get("/debug/proxies") as response:
                answer = await response.json()
            (shown,) = answer["proxies"]
            return shown if shown["revision"] == answer["revision"] else None

        shown = await until(acknowledged)
        assert shown["pod"] == "shop/web-0"
        assert shown["identity"] == "spiffe://cluster.local/ns/shop/sa/web"
        assert shown["subscriptions"] == [API]
        for path, text in (
            ("/healthz", "ok"),
            ("/readyz", "ready"),
            ("/metrics", "smi_mesh_controller_proxies 1.0"),
        ):
            async with session.get(path) as response:
                assert response.status == 200
                assert text in await response.text()


async def test_a_kind_that_is_not_served_stops_nothing_and_is_waited_for(mesh: Running) -> None:
    """A CRD that goes away ends the watches; what is known stays in force until it is back."""
    await mesh.create(canary(100, 0))
    await mesh.wait_condition("TrafficSplit", "canary", "Accepted", "True", 1)
    name = "identitybindings.access.smi-spec.io"
    definition = await mesh.api.get("customresourcedefinitions.apiextensions.k8s.io", None, name)
    await mesh.api.delete("customresourcedefinitions.apiextensions.k8s.io", None, name)

    async def waiting() -> bool:
        return mesh.controller.watch.waiting_for == (f"{name}/v1alpha4",)

    await until(waiting)
    latest = mesh.controller.hub.latest
    assert latest is not None
    assert latest.snapshot.made_from.world.splits
    del definition["status"], definition["metadata"]["resourceVersion"], definition["metadata"]["uid"]
    await mesh.create(definition)
    await mesh.create(service("late", "10.96.7.77"))

    async def seen() -> bool:
        known = mesh.controller.hub.latest
        return known is not None and any(
            one.name == "late" for one in known.snapshot.made_from.world.services
        )

    await until(seen)
    assert mesh.controller.hub.latest is not None
    assert mesh.controller.hub.latest.snapshot.made_from.world.splits
