"""A refused HTTP request is answered 403 by the mesh at once, and does not reach the application."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha")
    await mesh.settle()
    before = await mesh.reached("alpha")
    for path, method, body in (("/other", "GET", ""), ("/items", "POST", "an order"), ("/", "HEAD", "")):
        answer = (await mesh.call("client", f"http://alpha:8080{path}", method=method, body=body)).one
        expect(answer.status == 403 and answer.server is None, f"{method} {path} came to {answer}")
        expect(answer.seconds < 2, f"{method} {path} was refused after {answer.seconds:.1f} s only")
    expect(await mesh.reached("alpha") == before, "a refused request reached the application")


CASE = Case(
    name="denied-http-is-403",
    feature="access-denial",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A call on a route that is not in the rules is denied.",
        ),
    ),
    rules=("S25",),
    access="closed",
)
