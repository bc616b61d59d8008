"""A TCP connection stays with the backend it began with, whatever is said on it."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect, expect_exactly
from conformance.observe import tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await tcp_becomes_served(mesh, "client", "web", 8090, "alpha", "beta", count=20)
    conversations = await mesh.talk("client", "web", 8090, send=("one", "two", "three", "four"), count=40)
    expect_exactly(conversations, "alpha", "beta")
    mixed = [
        heard.received
        for heard in conversations.results
        if len({line.split(" ")[0] for line in heard.received}) > 1
    ]
    expect(not mixed, f"one connection was answered by several: {mixed[:1]}")
    expect(all(len(heard.received) == 4 for heard in conversations.results), "a line was not answered")


CASE = Case(
    name="tcp-connection-stays",
    feature="split-tcp",
    level=Level.CORE,
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
