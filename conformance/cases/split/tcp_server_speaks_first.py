"""A split does not hold up protocols in which the server speaks first."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect, expect_served
from conformance.observe import tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.deploy("greeter", env={"GREET": "1"})
    await mesh.apply()
    await tcp_becomes_served(mesh, "client", "web", 8090, "greeter", greeting=True)
    conversations = await mesh.talk("client", "web", 8090, count=10, greeting=True)
    expect_served(conversations, "greeter")
    first = {heard.received[0] for heard in conversations.results}
    expect(first == {"greeter ready"}, f"expected the greeting first, heard {first}")
    slowest = max(heard.seconds for heard in conversations.results)
    expect(slowest < 2.0, f"a conversation took {slowest:.1f} s")


CASE = Case(
    name="tcp-server-speaks-first",
    feature="split-tcp",
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
