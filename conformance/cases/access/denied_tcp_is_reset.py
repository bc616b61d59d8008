"""A refused TCP connection is reset at once; it does not hang."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import tcp_becomes_served


async def run(mesh: Mesh) -> None:
    before = await mesh.reached("alpha")
    heard = (await mesh.talk("client", "alpha", 8090)).one
    expect(heard.error == "reset" and not heard.received, f"the refused connection came to {heard}")
    expect(heard.seconds < 2, f"it was refused after {heard.seconds:.1f} s only")
    expect(await mesh.reached("alpha") == before, "a line of a refused connection reached the application")
    await mesh.apply("open")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")


CASE = Case(
    name="denied-tcp-is-reset",
    feature="access-denial",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S25",),
    access="closed",
)
