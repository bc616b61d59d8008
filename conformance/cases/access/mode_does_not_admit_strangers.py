"""Strict mTLS wins over a permissive mode: plain text stays out."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, condition_becomes, is_denied, is_tcp_denied


async def run(mesh: Mesh) -> None:
    await mesh.patch(
        "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mode": "permissive"}}}
    )
    try:
        await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
        await mesh.apply()
        await condition_becomes(mesh, "TrafficTarget", "outsider-to-alpha", "Programmed", "True")
        await is_denied(mesh, "outsider", "http://alpha:8080/")
        await is_tcp_denied(mesh, "outsider", "alpha", 8090)
    finally:
        await mesh.patch(
            "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mode": None}}}
        )
    await becomes_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="mode-does-not-admit-strangers",
    feature="access-modes",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("R9", "S32"),
    access="closed",
    needs=("access-status", "access-plaintext"),
)
