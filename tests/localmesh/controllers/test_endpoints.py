"""Services → Endpoints and EndpointSlices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmesh.apiserver.api import Api
from localmesh.controllers.endpoints import resolve_ports, slices
from tests.localmesh.cluster_kit import Kubelet, container, pod, wait_until


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": "web"}, "ports": ports, **spec}}


def web_pod(name: str, port: int = 8080) -> dict[str, Any]:
    ports = [{"containerPort": port, "name": "http", "protocol": "TCP"}]
    return pod(name, {"app": "web"}, containers=[container(ports=ports)])


def endpoints(api: Api, name: str = "web") -> list[tuple[str, int, bool]]:
    """(address, port, ready) of all slices."""
    found: list[tuple[str, int, bool]] = []
    for item in api._rest.store.items("endpointslices.discovery.k8s.io", "default"):
        if item.value["metadata"]["labels"]["kubernetes.io/service-name"] == name:
            found += [
                (endpoint["addresses"][0], port["port"], endpoint["conditions"]["ready"])
                for endpoint in item.value["endpoints"]
                for port in item.value["ports"]
            ]
    return sorted(found)


async def test_ready_pods_become_ready_endpoints(api: Api, kubelet: Kubelet) -> None:
    await api.create("services", "default", service())
    one, two = [await api.create("pods", "default", web_pod(name)) for name in ("one", "two")]
    await kubelet.ready(one)
    await kubelet.ready(two, ready=False)
    await wait_until(
        lambda: endpoints(api) == [("10.1.0.1", 8080, True), ("10.1.0.2", 8080, False)], "one ready, one not"
    )
    written = await api.get("endpoints", "default", "web")
    (subset,) = written["subsets"]
    assert [row["ip"] for row in subset["addresses"]] == ["10.1.0.1"]
    assert [row["ip"] for row in subset["notReadyAddresses"]] == ["10.1.0.2"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


async def test_terminating_pod_is_no_ready_endpoint_at_once(api: Api, kubelet: Kubelet) -> None:
    """discovery/v1 EndpointConditions: a slice says of a terminating pod whether it still serves."""
    await api.create("services", "default", service())
    await kubelet.ready(await api.create("pods", "default", web_pod("one")))
    await wait_until(lambda: len(endpoints(api)) == 1, "an endpoint")
    await api.delete("pods", "default", "one")
    assert "deletionTimestamp" in (await api.get("pods", "default", "one"))["metadata"]
    await wait_until(
        lambda: endpoints(api) == [("10.1.0.1", 8080, False)], "not ready while the pod still ends"
    )
    (item,) = api._rest.store.items("endpointslices.discovery.k8s.io", "default")
    (endpoint,) = item.value["endpoints"]
    assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert (await api.get("endpoints", "default", "web")).get("subsets", []) == []
    await kubelet.ready(await api.get("pods", "default", "one"), ready=False)
    await wait_until(
        lambda: (
            not api._rest.store.items("endpointslices.discovery.k8s.io", "default")[0].value["endpoints"][0][
                "conditions"
            ]["serving"]
        ),
        "its app has ended",
    )
    await api.delete("pods", "default", "one", grace_seconds=0)
    await wait_until(lambda: endpoints(api) == [], "gone with the pod")


async def test_named_port_may_differ_per_pod(api: Api, kubelet: Kubelet) -> None:
    await api.create("services", "default", service())
    for name, port in (("one", 8080), ("two", 9090)):
        await kubelet.ready(await api.create("pods", "default", web_pod(name, port)))
    await wait_until(
        lambda: endpoints(api) == [("10.1.0.1", 8080, True), ("10.1.0.2", 9090, True)], "each its own port"
    )


async def test_relabelled_pod_leaves_the_service(api: Api, kubelet: Kubelet) -> None:
    await api.create("services", "default", service())
    await kubelet.ready(await api.create("pods", "default", web_pod("one")))
    await wait_until(lambda: len(endpoints(api)) == 1, "an endpoint")
    await api.patch("pods", "default", "one", {"metadata": {"labels": {"app": "other"}}})
    await wait_until(lambda: endpoints(api) == [], "left")


async def test_headless_service_publishes_unready_when_asked(api: Api, kubelet: Kubelet) -> None:
    await api.create("services", "default", service(clusterIP="None", publishNotReadyAddresses=True))
    await kubelet.ready(await api.create("pods", "default", web_pod("one")), ready=False)
    await wait_until(lambda: endpoints(api) == [("10.1.0.1", 8080, True)], "published")
    (item,) = api._rest.store.items("endpointslices.discovery.k8s.io", "default")
    assert "service.kubernetes.io/headless" in item.value["metadata"]["labels"]


async def test_deleted_service_takes_its_slices_along(api: Api, kubelet: Kubelet) -> None:
    await api.create("services", "default", service())
    await kubelet.ready(await api.create("pods", "default", web_pod("one")))
    await wait_until(lambda: len(endpoints(api)) == 1, "an endpoint")
    await api.delete("services", "default", "web")
    await wait_until(
        lambda: not api._rest.store.items("endpointslices.discovery.k8s.io", "default"), "slices gone"
    )
    await wait_until(lambda: api.peek("endpoints", "default", "web") is None, "endpoints gone")


async def test_endpoints_written_by_people_are_mirrored(api: Api) -> None:
    await api.create("services", "default", service(selector=None))
    subset = {"addresses": [{"ip": "192.0.2.7"}], "ports": [{"name": "http", "port": 8080}]}
    await api.create("endpoints", "default", {"metadata": {"name": "web"}, "subsets": [subset]})
    await wait_until(lambda: endpoints(api) == [("192.0.2.7", 8080, True)], "mirrored")


def test_target_port_defaults_to_the_port() -> None:
    plain = {"spec": {"ports": [{"port": 80}]}}
    assert resolve_ports(plain, web_pod("one")) == (("", 80, "TCP", ""),)


def test_large_services_are_cut_into_slices_of_a_hundred() -> None:
    whole = service()
    whole["metadata"] |= {"namespace": "default", "uid": "u"}
    members: list[Mapping[str, Any]] = []
    for number in range(150):
        member = web_pod(f"p{number:03}")
        member["metadata"] |= {"namespace": "default", "uid": str(number)}
        member["status"] = {"podIP": f"10.1.0.{number}"}
        members.append(member)
    assert sorted(len(piece["endpoints"]) for piece in slices(whole, members).values()) == [50, 100]
