"""The observations that most cases make, as one line each. Built on `driver.Mesh` and `expect` only.

`becomes_…` waits for what must become true; the others look once, after `mesh.settle()` where
something must not have changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.driver import Answer, Heard, Mesh
from conformance.expect import expect, expect_denied, expect_exactly, expect_served, expect_shares

PICKS = 300
"""Requests that a share is judged on: tells 50/50 from 70/30 with certainty, in a fraction of a second."""


async def becomes_served(mesh: Mesh, app: str, url: str, *names: str, count: int = 1, **call: Any) -> None:
    """Wait until `count` requests are all answered 200 by `names`, each of which took part."""

    async def probe() -> None:
        expect_exactly(await mesh.call(app, url, count=count, timeout=2.0, **call), *names)

    await mesh.converge(probe, f"{app} → {url} served by {', '.join(names)}")


async def becomes_shared(
    mesh: Mesh, app: str, url: str, weights: Mapping[str, int], picks: int = PICKS, **call: Any
) -> None:
    """Wait until exactly the backends with a weight answer, then judge one count exactly."""
    partners = [name for name, weight in weights.items() if weight]

    async def probe() -> None:
        expect_exactly(await mesh.call(app, url, count=10 * len(partners), timeout=2.0, **call), *partners)

    await mesh.converge(probe, f"{app} → {url} shared by {', '.join(partners)}")
    await mesh.settle()
    answers = await mesh.call(app, url, count=picks, concurrency=4, **call)
    expect_shares(weights, answers, picks)


async def becomes_unavailable(mesh: Mesh, app: str, url: str, *, count: int = 5, **call: Any) -> None:
    """Wait until `count` requests are all answered 503 by a proxy: the split has nobody to send to."""

    async def probe() -> None:
        await is_unavailable(mesh, app, url, count=count, **call)

    await mesh.converge(probe, f"{app} → {url} answered 503")


async def is_unavailable(mesh: Mesh, app: str, url: str, *, count: int = 1, **call: Any) -> None:
    """Look once: every request is answered 503."""
    answers = await mesh.call(app, url, count=count, **call)
    expect(answers.statuses.get(503) == answers.total == count, f"expected 503 only, saw {answers}")


async def becomes_denied(mesh: Mesh, app: str, url: str, **call: Any) -> Answer:
    """Wait until a request is refused; returns the refusal. For permissions that were taken away."""

    async def probe() -> Answer:
        answers = await mesh.call(app, url, timeout=2.0, **call)
        expect_denied(answers)
        return answers.one

    return await mesh.converge(probe, f"{app} → {url} refused")


async def is_served(mesh: Mesh, app: str, url: str, *names: str, **call: Any) -> None:
    """Look once: every request (`count`, default 1) is answered 200 by one of `names`."""
    expect_served(await mesh.call(app, url, **call), *names)


async def is_denied(mesh: Mesh, app: str, url: str, **call: Any) -> None:
    """Look once: every request is refused."""
    expect_denied(await mesh.call(app, url, **call))


async def tcp_becomes_served(mesh: Mesh, app: str, host: str, port: int, *names: str, **talk: Any) -> None:
    """Wait until `count` TCP connections (default 1) are all answered by `names`, each of which took part."""

    async def probe() -> None:
        expect_exactly(await mesh.talk(app, host, port, timeout=2.0, **talk), *names)

    await mesh.converge(probe, f"{app} → {host}:{port} (TCP) served by {', '.join(names)}")


async def tcp_becomes_shared(
    mesh: Mesh, app: str, host: str, port: int, weights: Mapping[str, int], picks: int = PICKS
) -> None:
    """Wait until exactly the backends with a weight take connections, then judge one count exactly."""
    partners = [name for name, weight in weights.items() if weight]
    await tcp_becomes_served(mesh, app, host, port, *partners, count=10 * len(partners))
    await mesh.settle()
    expect_shares(weights, await mesh.talk(app, host, port, count=picks, concurrency=4), picks)


async def tcp_becomes_denied(mesh: Mesh, app: str, host: str, port: int, **talk: Any) -> Heard:
    """Wait until a TCP connection is refused; returns how."""

    async def probe() -> Heard:
        heard = await mesh.talk(app, host, port, timeout=2.0, **talk)
        expect_denied(heard)
        return heard.one

    return await mesh.converge(probe, f"{app} → {host}:{port} (TCP) refused")


async def is_tcp_served(mesh: Mesh, app: str, host: str, port: int, *names: str, **talk: Any) -> None:
    """Look once: every TCP connection is answered by one of `names`."""
    expect_served(await mesh.talk(app, host, port, **talk), *names)


async def is_tcp_denied(mesh: Mesh, app: str, host: str, port: int, **talk: Any) -> None:
    """Look once: every TCP connection is refused, and nothing was heard on it."""
    conversations = await mesh.talk(app, host, port, **talk)
    expect_denied(conversations)
    heard = [heard for heard in conversations.results if heard.received]
    expect(not heard, f"a refused connection said {heard[0].received}" if heard else "")


async def allows_exactly(
    mesh: Mesh, app: str, server: str, *, allowed: Sequence[str], refused: Sequence[str], **call: Any
) -> None:
    """Wait until the first allowed request (`GET /path`) is served, then look once at every one of them.

    What is to be refused is looked at after `settle`, so a permission that comes late is seen too.
    """
    for position, request in enumerate(allowed):
        method, path = request.split(" ")
        url = f"http://{server}:8080{path}"
        if position == 0:
            await becomes_served(mesh, app, url, server, method=method, **call)
            await mesh.settle()
        else:
            await is_served(mesh, app, url, server, method=method, **call)
    for request in refused:
        method, path = request.split(" ")
        await is_denied(mesh, app, f"http://{server}:8080{path}", method=method, **call)


async def udp_becomes_served(mesh: Mesh, app: str, host: str, port: int, *names: str, **flow: Any) -> None:
    """Wait until UDP flows (`count`, default 1) are all answered by `names`, each of which took part."""

    async def probe() -> None:
        expect_exactly(await mesh.datagrams(app, host, port, timeout=1.0, **flow), *names)

    await mesh.converge(probe, f"{app} → {host}:{port} (UDP) served by {', '.join(names)}")


async def udp_becomes_shared(
    mesh: Mesh, app: str, host: str, port: int, weights: Mapping[str, int], picks: int = PICKS
) -> None:
    """Wait until exactly the backends with a weight take flows, then judge one count exactly."""
    partners = [name for name, weight in weights.items() if weight]
    await udp_becomes_served(mesh, app, host, port, *partners, count=10 * len(partners))
    await mesh.settle()
    expect_shares(weights, await mesh.datagrams(app, host, port, count=picks, concurrency=4), picks)


async def is_udp_denied(mesh: Mesh, app: str, host: str, port: int, server: str) -> None:
    """Look once: a datagram is not answered, and never reaches the application `server`."""
    before = await mesh.reached(server)
    flows = await mesh.datagrams(app, host, port, timeout=1.0)
    expect(not flows.servers, f"expected a datagram to be dropped, saw {flows}")
    expect(await mesh.reached(server) == before, f"a datagram that nothing allows reached {server}")


async def condition_becomes(
    mesh: Mesh, kind: str, name: str, condition: str, status: str, reason: str | None = None
) -> None:
    """Wait until an object's condition has this status (and reason) for its present generation."""

    async def probe() -> None:
        conditions = await mesh.conditions(kind, name)
        found = conditions.get(condition)
        text = f"{kind} {name}: {condition} is {found}, all: {sorted(conditions)}"
        expect(found is not None and found.current and found.status == status, text)
        expect(reason is None or (found is not None and found.reason == reason), text)

    await mesh.converge(probe, f"{kind} {name}: {condition}={status}" + (f" ({reason})" if reason else ""))


async def event_becomes(mesh: Mesh, kind: str, name: str, reason: str, *mentions: str) -> None:
    """Wait for a Warning event about an object, with this reason and these words in its message."""

    async def probe() -> None:
        events = await mesh.events(kind, name)
        fitting = [
            event
            for event in events
            if event.type == "Warning"
            and event.reason == reason
            and all(word in event.message for word in mentions)
        ]
        expect(fitting, f"events on {kind} {name}: {events or 'none'}")

    await mesh.converge(probe, f"a Warning event {reason} on {kind} {name}")
