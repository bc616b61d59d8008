"""Taps that the controller asks for on the config stream."""

from __future__ import annotations

from dataplane.control.tapping import Tapping, follow
from dataplane.tap import MAX_TAPS, Tap
from dataplane.telemetry import Telemetry
from smi.policy.match import Request
from tests.dataplane.control.stand_in import StandIn
from tests.dataplane.control.test_discovery import Proxy, proxy
from tests.dataplane.waiting import until

__all__ = ["proxy"]


async def test_what_the_tap_takes_goes_up_the_stream_until_it_ends(proxy: Proxy, controller: StandIn) -> None:
    telemetry = Telemetry()
    tap = Tap(telemetry)
    follow(proxy.discovery, Tapping(tap, proxy.discovery.say))
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


async def test_who_asks_for_too_many_is_told(proxy: Proxy, controller: StandIn) -> None:
    tap = Tap()
    follow(proxy.discovery, Tapping(tap, proxy.discovery.say))
    stream = await proxy.greeted(controller)
    stream.send(type="tap", id="t0", seconds="soon", rate=1)  # not understood: no answer
    for number in range(MAX_TAPS + 1):
        stream.send(type="tap", id=f"t{number + 1}", seconds=60, rate=1)
    told = await stream.receive("tapped")
    assert (told["id"], told["error"]) == (f"t{MAX_TAPS + 1}", "too many taps")
