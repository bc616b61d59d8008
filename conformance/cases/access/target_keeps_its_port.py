"""A client that reads and writes a TrafficTarget in a version without `destination.port` does not lose it."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://beta:8080/", "beta")

    async def edited() -> None:
        seen = await mesh.read("TrafficTarget", "client-to-alpha", version="v1alpha3")
        source = {"kind": "ServiceAccount", "name": "other", "namespace": mesh.namespace}
        seen["spec"]["sources"].append(source)
        await mesh.replace(seen)

    await mesh.converge(edited, "reading and writing back in v1alpha3")
    back = await mesh.read("TrafficTarget", "client-to-alpha", version="v1alpha2")
    expect(
        back["spec"]["destination"].get("port") == 8090, f"the port is lost: {back['spec']['destination']}"
    )
    expect(len(back["spec"]["sources"]) == 2, f"the change is lost: {back['spec']['sources']}")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    await is_denied(mesh, "other", "http://alpha:8080/")


CASE = Case(
    name="target-keeps-its-port",
    feature="access-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R12", "S1"),
    access="closed",
)
