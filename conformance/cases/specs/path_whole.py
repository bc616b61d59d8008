"""In a namespace with regex: full a pathRegex has to match the whole path."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, is_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/items/7", "alpha")
    await mesh.patch(
        "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/regex": "full"}}}
    )
    try:
        await becomes_denied(mesh, "client", "http://alpha:8080/items/7")
        await is_served(mesh, "client", "http://alpha:8080/items", "alpha")
    finally:
        await mesh.patch(
            "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/regex": None}}}
        )
    await becomes_served(mesh, "client", "http://alpha:8080/items/7", "alpha")


CASE = Case(
    name="path-whole",
    feature="specs-http-path",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S16",),
    access="closed",
)
