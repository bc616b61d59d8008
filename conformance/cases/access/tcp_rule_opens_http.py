"""A TCPRoute alone opens its ports for anything, HTTP of any route among it."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_tcp_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /", "DELETE /anything"), refused=())
    await is_tcp_denied(mesh, "client", "alpha", 8090)


CASE = Case(
    name="tcp-rule-opens-http",
    feature="access-http",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S21",),
    access="closed",
)
