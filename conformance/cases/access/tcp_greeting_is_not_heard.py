"""A refused caller hears nothing of a server that speaks first."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import is_tcp_denied, tcp_becomes_denied


async def run(mesh: Mesh) -> None:
    await mesh.deploy("greeter", env={"TCP_PORT": "8090", "GREET": "1"}, ports=[("tcp", 8090)])
    await tcp_becomes_denied(mesh, "client", "greeter", 8090, greeting=True)
    await is_tcp_denied(mesh, "client", "greeter", 8090, greeting=True, count=5)
    await mesh.apply("open")

    async def greeted() -> None:
        heard = await mesh.talk("client", "greeter", 8090, greeting=True, timeout=2.0)
        expect(heard.one.received[:1] == ("greeter ready",), f"the allowed caller heard {heard.one}")

    await mesh.converge(greeted, "an allowed caller is greeted")
    await is_tcp_denied(mesh, "other", "greeter", 8090, greeting=True)


CASE = Case(
    name="tcp-greeting-is-not-heard",
    feature="access-tcp",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A pod that is not among the sources and tries to connect is denied; not a byte of the "
            "server is for it.",
        ),
    ),
    rules=("S20", "S25"),
    access="closed",
)
