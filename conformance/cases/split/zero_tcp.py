"""All weights 0: TCP connections are refused, not served by the root, and do not hang."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import is_tcp_denied, tcp_becomes_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await tcp_becomes_denied(mesh, "client", "web", 8090)
    await mesh.settle()
    await is_tcp_denied(mesh, "client", "web", 8090, count=10)


CASE = Case(
    name="zero-tcp",
    feature="split-zero",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S8", "S13"),
    needs=("split-tcp",),
)
