"""Taps that the controller asks for on the config stream."""

from __future__ import annotations

from dataplane.control.tapping import Tapping
from dataplane.tap import Tap
from dataplane.telemetry import Telemetry
from smi.policy.match import Request
from tests.dataplane.control.stand_in import StandIn
from tests.dataplane.control.test_discovery import Proxy, proxy
from tests.dataplane.waiting import until

__all__ = ["proxy"]


async def test_what_the_tap_takes_goes_up_the_stream_until_it_ends(proxy: Proxy, controller: StandIn) -> None:
    telemetry = Telemetry()
    tap = Tap(telemetry)
    Tapping(tap, proxy.discovery)
    stream = await proxy.greeted(controller)
    stream.send(type="tap", id="t1", filter={"method": "GET"}, seconds=60, rate=10)
    await until(lambda: tap.active)
    series = telemetry.http_series("inbound", "", "shop/web", "")
    for method in (b"GET", b"POST"):
        tap.see(series, Request(method, b"/", b"api"), 200, "", "", 0.001)
    told = await stream.receive("tapped")
    assert (told["id"], [one["method"] for one in told["requests"]], told["dropped"]) == ("t1", ["GET"], 0)
    stream.send(type="untap", id="t1")
    await until(lambda: not tap.active)
    stream.send(type="tap", id="t2", filter={}, seconds=60, rate=10)
    await until(lambda: tap.active)
    stream.close()
    await until(lambda: not tap.active)


async def test_one_that_cannot_be_tapped_says_so(proxy: Proxy, controller: StandIn) -> None:
    tap = Tap()
    Tapping(tap, proxy.discovery, "3 workers cannot be tapped")
    stream = await proxy.greeted(controller)
    stream.send(type="tap", id="t1", seconds="soon", rate=1)  # not understood: no answer
    stream.send(type="tap", id="t2", seconds=1, rate=1)
    told = await stream.receive("tapped")
    assert (told["id"], told["error"]) == ("t2", "3 workers cannot be tapped")
    assert not tap.active
