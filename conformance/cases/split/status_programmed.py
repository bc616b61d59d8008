"""Programmed becomes true for each generation when the proxies concerned run it."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import condition_becomes, is_served


async def run(mesh: Mesh) -> None:
    for old, new in ((1, 0), (0, 1)):
        await mesh.apply(old=old, new=new)
        await mesh.call("client", "http://web:8080/")
        await condition_becomes(mesh, "TrafficSplit", "web", "Programmed", "True")
        server = "alpha" if old else "beta"
        await is_served(mesh, "client", "http://web:8080/", server, count=20)


CASE = Case(
    name="status-programmed",
    feature="split-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S31",),
)
