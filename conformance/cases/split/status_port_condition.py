"""A port mismatch is the condition BackendsResolved=False, PortMismatch, until it is mended."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import condition_becomes


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await condition_becomes(mesh, "TrafficSplit", "birds", "BackendsResolved", "False", "PortMismatch")
    ports = [{"name": "http", "port": 8080, "targetPort": 8080}]
    await mesh.patch("Service", "blue-birds", {"spec": {"ports": ports}})
    await condition_becomes(mesh, "TrafficSplit", "birds", "BackendsResolved", "True")


CASE = Case(
    name="status-port-condition",
    feature="split-status",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R5", "S31"),
)
