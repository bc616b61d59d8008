"""The functions that the official SMI conformance tests bind to their steps, for our test application.

`--steps conformance.kuttl.smi` binds them by the official names. Those tests send from the Service `app-a` to
`app-b` or `app-svc` on port 9091 and look at what the applications counted; here the caller's own answers say
it, and waiting is by observation instead of five seconds' sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from conformance.drivers.reach import Place
from conformance.kuttl.steps import Context, StepFailed

PORT: Final = 9091
PICKS: Final = 300
"""The official tests judge 50 requests, which mistakes 75 to 25 about once in ten thousand runs."""
PAUSE: Final = 0.1
ANSWER_SECONDS: Final = 2.0


async def _pod(context: Context, service: str) -> Place:
    """A ready pod behind a Service, with an address."""
    space = context.namespace
    resource = await context.kube.resource("v1", "Service")
    found = await context.kube.request("GET", resource.path(space, service))
    selector = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"].items())
    for pod in await context.kube.objects("v1", "Pod", space, selector):
        ip = (pod.get("status") or {}).get("podIP")
        if ip and not pod["metadata"].get("deletionTimestamp"):
            return Place(space, pod["metadata"]["name"], ip)
    raise StepFailed(f"no pod is behind the Service {service}")


async def _call(context: Context, service: str, path: str, method: str = "GET", count: int = 1) -> Any:
    """Let app-a send requests to a service; returns the application's report."""
    host = f"{service}.{context.namespace}.svc.cluster.local"
    order = {
        "url": f"http://{host}:{PORT}/{path}",
        "method": method,
        "count": count,
        "timeout": ANSWER_SECONDS,
    }
    return await context.reach.ask(await _pod(context, "app-a"), "/call", order, ANSWER_SECONDS * count)


async def _until(context: Context, look: Callable[[], Awaitable[str]]) -> None:
    """Look until nothing is wrong; the step's own time is the limit, and what was seen last is logged."""
    last = ""
    while wrong := await look():
        if wrong != last:
            context.log(f"waiting: {wrong}")
            last = wrong
        await asyncio.sleep(PAUSE)


def _said(report: Any) -> str:
    one = report["results"][0]
    return one["error"] or f"status {one['status']}"


def _served(report: Any) -> bool:
    return bool(report["results"][0]["status"] == 200)


async def blocked(context: Context) -> None:
    """app-a cannot call app-b."""

    async def look() -> str:
        report = await _call(context, "app-b", "echo")
        return f"app-a → app-b: {_said(report)}, it must be blocked" if _served(report) else ""

    await _until(context, look)


async def allowed(context: Context) -> None:
    """app-a can call app-b, and it is app-b that answers."""

    async def look() -> str:
        report = await _call(context, "app-b", "echo")
        return "" if _served(report) else f"app-a → app-b: {_said(report)}, it must be allowed"

    await _until(context, look)
    report = await _call(context, "app-b", "echo")
    if report["results"][0]["server"] != "app-b":
        raise StepFailed(f"{report['results'][0]['server']} answered in place of app-b")


async def path(context: Context) -> None:
    """Only /metrics of app-b may be called."""

    async def look() -> str:
        metrics, echo = await _call(context, "app-b", "metrics"), await _call(context, "app-b", "echo")
        if _served(metrics) and not _served(echo):
            return ""
        return f"/metrics must be allowed: {_said(metrics)}; /echo must be blocked: {_said(echo)}"

    await _until(context, look)


async def method(context: Context) -> None:
    """app-b may be called with GET and not with POST."""

    async def look() -> str:
        get, post = await _call(context, "app-b", "echo"), await _call(context, "app-b", "echo", "POST")
        if _served(get) and not _served(post):
            return ""
        return f"GET must be allowed: {_said(get)}; POST must be blocked: {_said(post)}"

    await _until(context, look)


def _split(right: Callable[[int, int], bool], what: str) -> Callable[[Context], Awaitable[None]]:
    """A function that judges how PICKS requests to app-svc are shared by app-b and app-c."""

    async def split(context: Context) -> None:
        async def look() -> str:
            report = await _call(context, "app-svc", "echo", count=PICKS)
            servers = report["summary"]["servers"]
            to_b, to_c = (int(servers.get(name, 0)) for name in ("app-b", "app-c"))
            if to_b + to_c == PICKS and right(to_b, to_c):
                return ""
            return f"{what}: app-b had {to_b} and app-c {to_c} of {PICKS} requests"

        await _until(context, look)

    return split


STEPS: Final = {
    "traffic-access": {"trafficDefault": blocked, "trafficAllowed": allowed, "trafficBlocked": blocked},
    "traffic-spec": {"trafficPath": path, "trafficMethod": method},
    "traffic-split": {
        "trafficDefault": _split(lambda b, c: b > 0 and c > 0, "both must be called"),
        "trafficOnlyB": _split(lambda _, c: c == 0, "only app-b may be called"),
        "trafficOnlyC": _split(lambda b, _: b == 0, "only app-c may be called"),
        "trafficBGrtC": _split(lambda b, c: b > c > 0, "app-b must be called more than app-c"),
        "trafficCGrtB": _split(lambda b, c: c > b > 0, "app-c must be called more than app-b"),
    },
}
