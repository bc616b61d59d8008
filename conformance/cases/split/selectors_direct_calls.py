"""Backends and other Services stay what they are when they are called by their own names."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=30)
    await mesh.settle()
    for server in ("alpha", "beta", "gamma"):
        await is_served(mesh, "client", f"http://{server}:8080/", server, count=50)


CASE = Case(
    name="selectors-direct-calls",
    feature="split-selectors",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "The new version is checked by requests to its own Service while the split sends it nothing.",
        ),
    ),
    rules=("S12",),
)
