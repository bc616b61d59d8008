"""A client that reads and writes a TCPRoute in v1alpha1 does not open all its ports."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import is_denied, is_tcp_served, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")

    async def edited() -> None:
        seen = await mesh.read("TCPRoute", "line", version="v1alpha1")
        seen["metadata"]["labels"] = {"touched": "yes"}
        await mesh.replace(seen)

    await mesh.converge(edited, "reading and writing back in v1alpha1")
    back = await mesh.read("TCPRoute", "line", version="v1alpha4")
    expect(back.get("spec", {}).get("matches") == {"ports": [8090]}, f"the ports are lost: {back}")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    await is_tcp_served(mesh, "client", "alpha", 8090, "alpha")


CASE = Case(
    name="route-keeps-its-ports",
    feature="specs-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R12", "S1"),
    access="closed",
)
