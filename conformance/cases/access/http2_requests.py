"""HTTP/2 requests are judged one by one, like any other."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha", http="http/2", count=5)
    await mesh.settle()
    before = await mesh.reached("alpha")
    refused = (("client", "/other", "GET"), ("client", "/items", "POST"), ("other", "/items", "GET"))
    for caller, path, method in refused:
        url = f"http://alpha:8080{path}"
        await is_denied(mesh, caller, url, method=method, http="http/2", count=3)
    expect(await mesh.reached("alpha") == before, "a refused request reached the application")


CASE = Case(
    name="http2-requests",
    feature="access-http2",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTPRouteGroup",
            "The resource describes HTTP/1 and HTTP/2 traffic.",
        ),
    ),
    rules=("S21", "S25"),
    access="closed",
)
