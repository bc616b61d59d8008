"""A mode that is misspelt leaves the namespace enforced."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.patch(
        "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mode": "permisive"}}}
    )
    try:
        await mesh.apply()
        await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
        await mesh.settle()
        await is_denied(mesh, "other", "http://alpha:8080/")
    finally:
        await mesh.patch(
            "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mode": None}}}
        )


CASE = Case(
    name="mode-misspelt",
    feature="access-modes",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S27", "R9"),
    access="closed",
)
