"""Where mTLS is permissive plain text comes in; those who have an identity need TrafficTargets."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await is_denied(mesh, "outsider", "http://alpha:8080/")
    await mesh.patch(
        "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mtls": "permissive"}}}
    )
    try:
        await becomes_served(mesh, "outsider", "http://alpha:8080/", "alpha")
        await is_denied(mesh, "other", "http://alpha:8080/")
        await mesh.apply("open")
        await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
        await is_denied(mesh, "other", "http://alpha:8080/")
    finally:
        await mesh.patch(
            "Namespace", mesh.namespace, {"metadata": {"annotations": {"smi-mesh.io/mtls": None}}}
        )
    await becomes_denied(mesh, "outsider", "http://alpha:8080/")


CASE = Case(
    name="plaintext-permissive",
    feature="access-plaintext",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S32", "R9"),
    access="closed",
)
