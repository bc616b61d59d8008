"""While weights change, no request fails."""

from __future__ import annotations

import asyncio

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect_served
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply(old=100, new=0)
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=20)
    answers, _ = await asyncio.gather(
        mesh.call("client", "http://web:8080/", count=2000, concurrency=4), _change(mesh)
    )
    expect_served(answers, "alpha", "beta")
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=20)


async def _change(mesh: Mesh) -> None:
    for old, new in ((90, 10), (50, 50), (10, 90), (0, 100)):
        await mesh.apply(old=old, new=new)
        await mesh.settle()


CASE = Case(
    name="lifecycle-weight-change-under-load",
    feature="split-lifecycle",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Traffic is directed to another version incrementally, which is of use only if calls survive it.",
        ),
    ),
)
