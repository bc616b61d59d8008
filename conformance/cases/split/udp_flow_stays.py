"""The datagrams of one flow go to one backend."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect, expect_exactly
from conformance.observe import udp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await udp_becomes_served(mesh, "client", "web", 8070, "alpha", "beta", count=20)
    flows = await mesh.datagrams("client", "web", 8070, send=("one", "two", "three"), count=40)
    expect_exactly(flows, "alpha", "beta")
    mixed = [
        heard.received for heard in flows.results if len({line.split(" ")[0] for line in heard.received}) > 1
    ]
    expect(not mixed, f"one flow was answered by several: {mixed[:1]}")


CASE = Case(
    name="udp-flow-stays",
    feature="split-udp",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Specification",
            "Traffic is weighted between the backends.",
        ),
    ),
    rules=("S13",),
)
