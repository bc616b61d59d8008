"""A namespace in mode permissive lets pass what no TrafficTarget allows; no longer when the mode is gone."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import (
    becomes_denied,
    becomes_served,
    condition_becomes,
    is_denied,
    is_served,
    tcp_becomes_served,
)


async def run(mesh: Mesh) -> None:
    await is_denied(mesh, "client", "http://alpha:8080/")
    await mesh.patch(
        "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mode": "permissive"}}}
    )
    try:
        await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
        await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")
        await mesh.apply("narrow")
        await condition_becomes(mesh, "TrafficTarget", "client-to-alpha", "Programmed", "True")
        await is_served(mesh, "client", "http://alpha:8080/anything", "alpha")
    finally:
        await mesh.patch(
            "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mode": None}}}
        )
    await becomes_denied(mesh, "client", "http://alpha:8080/anything")
    await is_served(mesh, "client", "http://alpha:8080/items", "alpha")


CASE = Case(
    name="mode-permissive",
    feature="access-modes",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S27", "R9"),
    access="closed",
    needs=("access-status",),
)
