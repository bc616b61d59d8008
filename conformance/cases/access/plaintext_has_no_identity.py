"""A caller without a sidecar is refused, even if a TrafficTarget names its account."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")
    await mesh.settle()
    await is_denied(mesh, "outsider", "http://alpha:8080/")
    await is_denied(mesh, "outsider", f"http://{await mesh.address('alpha')}:8080/")
    await is_tcp_denied(mesh, "outsider", "alpha", 8090)


CASE = Case(
    name="plaintext-has-no-identity",
    feature="access-plaintext",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S32",),
    access="closed",
)
