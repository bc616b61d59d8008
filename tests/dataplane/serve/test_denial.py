"""S20-S32 at the destination: what a refused caller sees, and what is counted."""

from __future__ import annotations

import asyncio
import re

import pytest

from smi.policy.snapshot import Mode, Mtls, Probe, Protocol
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, Mesh, Pod, match, routes, spiffe, two_hops
from tests.dataplane.waiting import until


def denials(pod: Pod) -> list[tuple[str, ...]]:
    return list(pod.telemetry._denials.values)


async def test_denied_by_default_and_the_app_sees_nothing(net: Mesh) -> None:
    echo = Echo()
    web, api = await two_hops(net, echo)
    api.admit()
    client = await net.client(web.outbound)
    answer = await client.ask(get(API, "/items"))
    assert answer.status == 403
    found = re.fullmatch(r"no-traffic-target; id=([0-9a-f]{12})", answer.get("x-smi-mesh-denial") or "")
    assert found
    assert answer.body.startswith(b"smi-mesh: no TrafficTarget allows ")
    assert echo.seen == []
    assert denials(api) == [("no-traffic-target", found[1], "shop/api-1")]
    assert api.count("inbound") == {(403, "no-traffic-target"): 1}
    # the connection goes on, and the refusal is the same every time
    again = await client.ask(get(API, "/items"))
    assert again.get("x-smi-mesh-denial") == answer.get("x-smi-mesh-denial")


async def test_exactly_the_allowed_route_is_open(net: Mesh) -> None:
    echo = Echo()
    web, api = await two_hops(net, echo)
    api.admit(routes(match("/items", "GET")))
    client = await net.client(web.outbound)
    assert (await client.ask(get(API, "/items?all"))).status == 200
    for method, path in (("POST", "/items"), ("GET", "/admin"), ("GET", "/x/../admin")):
        answer = await client.ask(get(API, path, method=method))
        assert (answer.get("x-smi-mesh-denial") or "").startswith("route-not-allowed;")
    assert (await client.ask(get(API, "/admin/..//items"))).status == 200
    assert [seen.start for seen in echo.seen] == ["GET /items?all HTTP/1.1", "GET /items HTTP/1.1"]


async def test_denied_post_with_a_body_leaves_the_connection_usable(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    api.admit(routes(match("/items", "GET")))
    client = await net.client(web.outbound)
    body = get(API, "/items", "Content-Length: 4", method="POST") + b"data"
    assert (await client.ask(body)).status == 403
    assert (await client.ask(get(API, "/items"))).status == 200


async def test_denied_upload_is_told_before_it_is_finished(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    api.admit()
    client = await net.client(web.outbound)
    client.send(get(API, "/items", "Content-Length: 1000000", method="POST") + b"begin")
    assert (await client.receive()).status == 403
    assert await client.closed() == b""


async def test_head_is_denied_without_a_body(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    api.admit()
    client = await net.client(web.outbound)
    for _ in range(2):
        assert (await client.ask(get(API, method="HEAD"), head_only=True)).status == 403


async def test_another_identity_is_another_caller(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    api.admit(net.anything(source="stranger"))
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.get("x-smi-mesh-denial") or "").startswith("source-not-allowed;")
    web.contexts.rotate("stranger")
    assert (await client.ask(get(API))).status == 200


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.AUDIT])
async def test_other_modes_admit_and_count(net: Mesh, mode: Mode) -> None:
    web, api = await two_hops(net, Echo())
    api.admit(mode=mode)
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    notes = api.telemetry.counter("smi_mesh_admitted_by_note_total", "", ("note", "reason"))
    assert notes.values == {(mode.value, "no-traffic-target"): 1}


async def test_without_config_nothing_passes(net: Mesh) -> None:
    web, api = await net.pod("web"), await net.pod("api")
    port = await net.serve(api.ip, Echo())
    web.reach(API, [api.endpoint(port)])
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.get("x-smi-mesh-denial") or "").startswith("no-config;")


async def test_the_proxys_own_ports_are_not_the_app(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    web.reach(API, [api.endpoint(api.settings.admin_port)])
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert answer.status in (502, 503)
    web.reach(API, [api.endpoint(api.settings.outbound_port)])
    assert (await client.ask(get(API))).status in (502, 503)


async def plain_pod(net: Mesh, echo: Echo, protocol: Protocol = Protocol.HTTP) -> tuple[Pod, int]:
    """A pod whose plain inbound listener is meant for the app's port."""
    where: list[tuple[str, int]] = []
    pod = await net.pod("api", original=lambda _: where[0], plain=True)
    port = await net.serve(pod.ip, echo)
    where.append((pod.ip, port))
    pod.admit(net.anything(), ports=[(port, protocol)])
    return pod, port


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
async def test_plain_text_is_refused(net: Mesh, protocol: Protocol) -> None:
    """S32: TrafficTargets never match callers without identity."""
    pod, _ = await plain_pod(net, Echo(), protocol)
    client = await net.client(("127.0.0.1", pod.settings.inbound_port))
    answer = await client.ask(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
    assert (answer.get("x-smi-mesh-denial") or "").startswith("no-identity;")


async def test_plain_text_is_admitted_during_a_migration(net: Mesh) -> None:
    echo = Echo()
    pod, port = await plain_pod(net, echo)
    pod.admit(mtls=Mtls.PERMISSIVE, ports=[(port, Protocol.HTTP)])
    client = await net.client(("127.0.0.1", pod.settings.inbound_port))
    spoof = f"X-Forwarded-Client-Cert: URI={spiffe('web')}"
    answer = await client.ask(f"GET / HTTP/1.1\r\nHost: api\r\n{spoof}\r\n\r\n".encode())
    assert answer.status == 200
    assert echo.seen[0].get("x-forwarded-client-cert") is None
    notes = pod.telemetry.counter("smi_mesh_admitted_by_note_total", "", ("note", "reason"))
    assert notes.values == {("unauthenticated", ""): 1}


async def test_probes_pass(net: Mesh) -> None:
    """S26: by port and path, the query ignored."""
    pod, port = await plain_pod(net, Echo())
    pod.admit(ports=[(port, Protocol.HTTP)], probes=(Probe(port, "/healthz"),))
    client = await net.client(("127.0.0.1", pod.settings.inbound_port))
    for request, status in (
        (b"GET /healthz?x=1", 200),
        (b"GET /healthz/../secret", 403),
        (b"POST /healthz", 403),
        (b"GET /", 403),
    ):
        assert (await client.ask(request + b" HTTP/1.1\r\nHost: api\r\n\r\n")).status == status


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.DETECT])
async def test_opaque_plain_text_is_reset(net: Mesh, protocol: Protocol) -> None:
    pod, _ = await plain_pod(net, Echo(), protocol)
    client = await net.client(("127.0.0.1", pod.settings.inbound_port))
    if protocol is Protocol.DETECT:
        client.send(b"SELECT 1\n")
    with pytest.raises(ConnectionResetError):
        await client.closed()
    await until(lambda: [reason for reason, *_ in denials(pod)] == ["no-identity"])


async def test_equal_denials_are_logged_once(net: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    web, api = await two_hops(net, Echo())
    api.admit()
    client = await net.client(web.outbound)
    for _ in range(5):
        await client.ask(get(API))
    lines = [record for record in caplog.records if record.name == "dataplane.inbound"]
    assert len(lines) == 1
    assert "no-traffic-target" in lines[0].getMessage()
    await asyncio.sleep(0)
