"""A permission that is withdrawn ends on connections that are open, too."""

from __future__ import annotations

import asyncio

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    before = await mesh.reached("alpha")

    async def begun() -> None:
        expect(await mesh.reached("alpha") > before + 1, "the long row of requests has not begun")

    async def withdraw() -> None:
        await mesh.converge(begun, "requests on one connection")
        await mesh.delete("TrafficTarget", "client-to-alpha")

    # One worker has one connection; a mesh that closes the door on it needs few of the 100 requests.
    row = mesh.call("client", "http://alpha:8080/?delay=0.1", count=100)
    answers, _ = await asyncio.gather(row, withdraw())
    first, last = answers.results[0], answers.results[-1]
    expect(first.status == 200, f"the first request came to {first}")
    expect(last.server is None and last.status == 403, f"the last request came to {last}, all: {answers}")


CASE = Case(
    name="kept-alive-connection",
    feature="access-lifecycle",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S20",),
    access="closed",
)
