"""`settle()` returns when the mesh has worked in what was applied before, and not sooner.

The mesh here is a simulation whose proxies learn of each object late and in order, as SMI meshes do.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance.driver import Object
from conformance.drivers import site as sites
from conformance.drivers import world
from conformance.drivers.site import SettleError, Site
from conformance.profiles import known

PODS = (*world.CALLERS, *world.SERVERS)


class Mesh:
    """Stands for the API and for the pods. A slow proxy learns one more object every third look at it."""

    def __init__(
        self, *, permissive: bool = False, granted: tuple[str, ...] = (), slow: str = "", deaf: str = ""
    ) -> None:
        self.permissive = permissive
        self.granted = granted
        """Callers that may call everything, by a grant of the case's own."""
        self.slow = slow
        self.deaf = deaf
        self.log: list[Object] = []
        """What was applied, oldest first."""
        self.known = dict.fromkeys(PODS, 0)
        self.patience = dict.fromkeys(PODS, 0)

    # -- the API -----------------------------------------------------------------------------------

    async def apply(self, obj: Object, namespace: str) -> None:
        self.log.append(obj)
        for pod in PODS:
            if pod not in (self.slow, self.deaf):
                self.known[pod] = len(self.log)

    async def objects(self, _version: str, _kind: str, namespace: str, labels: str) -> list[Object]:
        name = labels.removeprefix("app=")
        status = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        return [{"metadata": {"name": name}, "status": status}]

    # -- the pods ----------------------------------------------------------------------------------

    async def ask(self, place: Any, path: str, order: dict[str, Any], seconds: float) -> Any:
        url = urlsplit(order["url"])
        host = url.hostname or ""
        self._learn(place.name)
        if host == world.MARKER:
            server = self._backend(place.name)
        else:
            self._learn(host)
            server = host if self._admits(host, url.path, place.name) else None
        return {"results": [{"status": 200 if server else 403, "server": server}]}

    def _learn(self, pod: str) -> None:
        if pod == self.slow and self.known[pod] < len(self.log):
            self.patience[pod] += 1
            if self.patience[pod] % 3 == 0:
                self.known[pod] += 1

    def seen(self, pod: str, kind: str) -> list[Object]:
        return [obj for obj in self.log[: self.known[pod]] if obj["kind"] == kind]

    def _backend(self, pod: str) -> str | None:
        splits = self.seen(pod, "TrafficSplit")
        return splits[-1]["spec"]["backends"][0]["service"] if splits else None

    def _admits(self, pod: str, path: str, caller: str) -> bool:
        groups = self.seen(pod, "HTTPRouteGroup")
        pattern = groups[-1]["spec"]["matches"][0]["pathRegex"] if groups else None
        marked = caller in world.SERVERS and bool(pattern and re.match(pattern, path))
        return self.permissive or caller in self.granted or marked


def site_in(mesh: Mesh, access: sites.Access) -> Site:
    plan = world.Plan("run", "image", known("smi-mesh"))
    found = Site(mesh, mesh, None, plan, 1)  # type: ignore[arg-type]  # the simulation stands for both
    found.access = access
    return found


def splits(mesh: Mesh) -> list[str]:
    return [obj["spec"]["backends"][0]["service"] for obj in mesh.log if obj["kind"] == "TrafficSplit"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "PAUSE", 0.001)
    monkeypatch.setattr(sites, "SETTLE_SECONDS", 0.2)


@pytest.mark.parametrize("granted", [(), ("client",), ("client", "alpha")])
@pytest.mark.parametrize("slow", ["", *world.SERVERS])
async def test_grants_are_awaited_where_they_count(slow: str, granted: tuple[str, ...]) -> None:
    """Also where the case's own grants let somebody do everything."""
    mesh = Mesh(slow=slow, granted=granted)
    here = site_in(mesh, "closed")
    for turn in range(1, 4):
        await here.settle()
        newest = [mesh.seen(server, "HTTPRouteGroup")[-1]["spec"]["matches"][0] for server in world.SERVERS]
        assert {match["pathRegex"] for match in newest} == {world.marker_path(str(turn))}
    assert splits(mesh) == []


@pytest.mark.parametrize("slow", world.SERVERS)
async def test_where_nothing_is_denied_servers_show_a_split(slow: str) -> None:
    """Every path is served at once there: that a marker's path is served says nothing about `slow`."""
    mesh = Mesh(permissive=True, slow=slow)
    here = site_in(mesh, "closed")
    for _ in range(3):
        await here.settle()
        assert mesh.known[slow] == len(mesh.log)
    assert splits(mesh) == ["alpha", "beta", "alpha"], "a marker that does not change proves nothing"


@pytest.mark.parametrize("deaf", world.SERVERS)
@pytest.mark.parametrize("permissive", [False, True])
async def test_a_server_that_learns_nothing_is_never_settled(deaf: str, permissive: bool) -> None:
    with pytest.raises(SettleError, match="did not show in traffic"):
        await site_in(Mesh(permissive=permissive, deaf=deaf), "closed").settle()


async def test_open_cases_look_at_the_callers() -> None:
    mesh = Mesh(slow="other")
    here = site_in(mesh, "open")
    await here.settle()
    await here.settle()
    assert splits(mesh) == ["alpha", "beta"]
    assert mesh.known["other"] == len(mesh.log)
    with pytest.raises(SettleError):
        await site_in(Mesh(deaf="client"), "open").settle()
