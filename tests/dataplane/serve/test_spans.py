"""Traces through proxies that serve: whose child each span is, and what the app and the next hop are told."""

from __future__ import annotations

import asyncio

import pytest

from dataplane.core.traces import read_context
from dataplane.dialects.istio import Istio
from dataplane.page import Page
from dataplane.telemetry import Own
from dataplane.tracing.semantics import Record
from smi.policy.snapshot import Endpoint
from tests.dataplane.serve import grpc_app
from tests.dataplane.serve.http import Echo, Message, get, plain
from tests.dataplane.serve.mesh import API, Mesh, Pod, free_port, two_hops
from tests.dataplane.serve.test_grpc import _shop
from tests.dataplane.serve.test_retry import Dies
from tests.dataplane.serve.test_upgrade import WEBSOCKET, switching
from tests.dataplane.waiting import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
ALWAYS: tuple[float, tuple[str, ...]] = (1.0, ("w3c",))
NEVER: tuple[float, tuple[str, ...]] = (0.0, ("w3c",))


def told(message: Message) -> dict[str, str]:
    """The trace fields that the app got."""
    names = ("traceparent", "tracestate", "b3")
    return {name: value for name, value in message.fields if name in names or name.startswith("x-b3-")}


async def ask(net: Mesh, web: Pod, *fields: str, path: str = "/items") -> Message:
    client = await net.client(web.outbound)
    return await client.ask(get(API, path, *fields))


def one(pod: Pod) -> Record:
    (span,) = pod.spans()
    return span


async def test_a_request_without_context_begins_a_trace_of_two_spans(net: Mesh) -> None:
    net.tracing, app = ALWAYS, Echo()
    web, api = await two_hops(net, app)
    assert (await ask(net, web, "user-agent: test", path="/items?secret=1")).status == 200
    outer, inner = one(web), one(api)
    assert (outer.server, inner.server) == (False, True)
    assert (outer.parent, inner.parent) == ("", outer.id)
    assert outer.trace == inner.trace
    assert told(app.seen[0]) == {"traceparent": f"00-{outer.trace}-{inner.id}-01"}
    assert outer.attributes["smi_mesh.destination.identity"] == api.identity
    assert inner.attributes["smi_mesh.source.identity"] == web.identity
    assert (outer.attributes["network.peer.address"], outer.attributes["server.port"]) == (api.ip, 8080)
    assert outer.attributes["smi_mesh.request_id"] == inner.attributes["smi_mesh.request_id"]
    assert outer.attributes["http.response.body.size"] == 3
    assert outer.start <= inner.start <= inner.end <= outer.end
    assert "secret" not in repr((outer, inner))


async def test_a_trace_that_comes_is_joined_and_its_state_kept(net: Mesh) -> None:
    net.tracing, app = NEVER, Echo()
    web, api = await two_hops(net, app)
    await ask(net, web, f"TraceParent: 00-{TRACE}-{CALLER}-01", "tracestate: a=1,b=2", "baggage: k=v")
    outer, inner = one(web), one(api)
    assert (outer.trace, outer.parent, inner.parent) == (TRACE, CALLER, outer.id)
    assert outer.state == "a=1,b=2"
    assert told(app.seen[0]) == {"traceparent": f"00-{TRACE}-{inner.id}-01", "tracestate": "a=1,b=2"}
    assert app.seen[0].get("baggage") == "k=v"


@pytest.mark.parametrize(
    "fields",
    [
        {"traceparent": f"00-{TRACE}-{CALLER}-00", "tracestate": "a=1"},
        {"b3": "0"},
        {"b3": f"{TRACE}-{CALLER}-0-{CALLER}"},
        {"x-b3-traceid": TRACE, "x-b3-spanid": CALLER, "x-b3-sampled": "0"},
        {"x-b3-sampled": "0"},
    ],
)
async def test_who_is_not_to_be_sampled_is_not_and_passes_untouched(
    net: Mesh, fields: dict[str, str]
) -> None:
    net.tracing, app = ALWAYS, Echo()
    web, api = await two_hops(net, app)
    await ask(net, web, *(f"{name}: {value}" for name, value in fields.items()))
    assert told(app.seen[0]) == fields
    assert web.spans() == api.spans() == []


async def test_b3_is_answered_in_b3(net: Mesh) -> None:
    net.tracing, app = NEVER, Echo()
    web, api = await two_hops(net, app)
    await ask(net, web, f"b3: {TRACE}-{CALLER}-1")
    outer, inner = one(web), one(api)
    assert (outer.parent, inner.parent) == (CALLER, outer.id)
    assert told(app.seen[0]) == {"b3": f"{TRACE}-{inner.id}-1-{outer.id}"}


async def test_b3_in_several_fields_is_answered_so(net: Mesh) -> None:
    net.tracing, app = NEVER, Echo()
    web, api = await two_hops(net, app)
    short = TRACE[16:]
    await ask(net, web, f"X-B3-TraceId: {short}", f"X-B3-SpanId: {CALLER}", "X-B3-Flags: 1")
    outer, inner = one(web), one(api)
    assert (outer.trace, inner.parent) == ("0" * 16 + short, outer.id)
    assert told(app.seen[0]) == {
        "x-b3-traceid": short,
        "x-b3-spanid": inner.id,
        "x-b3-parentspanid": outer.id,
        "x-b3-flags": "1",
    }


async def test_a_decision_nobody_has_made_is_made_once(net: Mesh) -> None:
    app = Echo()
    net.tracing = NEVER
    web, _ = await two_hops(net, app)
    await ask(net, web, f"b3: {TRACE}-{CALLER}")
    assert told(app.seen[0]) == {"b3": f"{TRACE}-{CALLER}-0"}
    assert web.spans() == []


async def test_a_trace_that_is_not_sampled_is_so_for_everybody_behind(net: Mesh) -> None:
    """The caller's sidecar draws; that of the destination, which would sample all, does not draw again."""
    app = Echo()
    net.tracing = NEVER
    web = await net.pod("web")
    net.tracing = ALWAYS
    api = await net.pod("api")
    port = await net.serve(api.ip, app)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)])
    await ask(net, web)
    assert web.spans() == api.spans() == []
    context = read_context([(b"traceparent", told(app.seen[0])["traceparent"].encode())])
    assert context is not None
    assert context.sampled is False


@pytest.mark.parametrize("share", [NEVER, ALWAYS])
async def test_a_malformed_context_is_replaced(net: Mesh, share: tuple[float, tuple[str, ...]]) -> None:
    net.tracing, app = share, Echo()
    web, _ = await two_hops(net, app)
    await ask(net, web, f"traceparent: ff-{TRACE}-{CALLER}-01", "tracestate: a=1", "b3: nonsense")
    fields = told(app.seen[0])
    assert set(fields) == {"traceparent"}
    context = read_context([(b"traceparent", fields["traceparent"].encode())])
    assert context is not None
    assert context.trace.decode() != TRACE
    assert context.sampled is (share is ALWAYS)
    assert [span.parent for span in web.spans()] == [""] * (share is ALWAYS)


async def test_a_new_trace_is_told_in_every_form_that_is_wished_for(net: Mesh) -> None:
    net.tracing, app = (1.0, ("w3c", "b3", "b3-multi")), Echo()
    web, api = await two_hops(net, app)
    await ask(net, web)
    outer, inner = one(web), one(api)
    assert told(app.seen[0]) == {
        "traceparent": f"00-{outer.trace}-{inner.id}-01",
        "b3": f"{outer.trace}-{inner.id}-1-{outer.id}",
        "x-b3-traceid": outer.trace,
        "x-b3-spanid": inner.id,
        "x-b3-parentspanid": outer.id,
        "x-b3-sampled": "1",
    }


async def test_without_a_tracer_everything_passes_untouched(net: Mesh) -> None:
    app = Echo()
    web, _ = await two_hops(net, app)
    await ask(net, web, "traceparent: whatever", "tracestate: a=1", "b3: nonsense")
    assert told(app.seen[0]) == {"traceparent": "whatever", "tracestate": "a=1", "b3": "nonsense"}
    await ask(net, web)
    assert told(app.seen[1]) == {}


async def test_what_is_denied_has_its_reason_and_id_on_both_sides(net: Mesh) -> None:
    net.tracing = ALWAYS
    web, api = await two_hops(net, Echo())
    api.admit()
    denial = (await ask(net, web)).get("x-smi-mesh-denial")
    assert denial is not None
    outer, inner = one(web), one(api)
    assert inner.parent == outer.id
    for span in (outer, inner):
        said = span.attributes
        assert f"{said['smi_mesh.denial.reason']}; id={said['smi_mesh.denial.id']}" == denial
        assert said["http.response.status_code"] == 403
    assert (outer.error, inner.error) == ("403", "")


async def test_an_attempt_that_failed_is_an_event_of_the_one_span(net: Mesh) -> None:
    net.tracing, app = ALWAYS, Echo()
    web, api = await net.pod("web"), await net.pod("api")
    alive, gone = api.endpoint(await net.serve(api.ip, app)), Endpoint("127.0.0.1", free_port())
    web.admit()
    api.admit(net.anything())
    for _ in range(100):  # which endpoint is tried first is a matter of chance
        web.reach(API, [gone, alive])
        assert (await ask(net, web)).status == 200
        span = one(web)
        if span.events:
            break
    (event,) = span.events
    assert (event.name, event.attributes) == (
        "smi_mesh.retry",
        {
            "smi_mesh.reason": "connect-failed",
            "network.peer.address": gone.ip,
            "network.peer.port": gone.port,
        },
    )
    assert span.start <= event.time <= span.end
    assert (span.error, span.attributes["http.request.resend_count"]) == ("", 1)
    assert span.attributes["network.peer.address"] == api.ip
    assert api.spans()[-1].parent == span.id


async def test_a_request_that_nobody_can_take_has_the_reason(net: Mesh) -> None:
    net.tracing = ALWAYS
    web = await net.pod("web")
    web.admit()
    web.reach(API, [Endpoint("127.0.0.1", free_port())])
    assert (await ask(net, web)).get("x-smi-mesh-reason") == "connect-failed"
    span = one(web)
    assert (span.error, span.attributes["smi_mesh.reason"]) == ("connect-failed", "connect-failed")
    assert span.attributes["http.response.status_code"] == 503


async def test_a_retry_carries_the_same_span(net: Mesh) -> None:
    net.tracing, server = ALWAYS, Dies(1)
    web, api = await two_hops(net, server)
    assert (await ask(net, web)).body == b"alive"
    (event,) = [event for span in (*web.spans(), *api.spans()) for event in span.events]
    assert (event.name, event.attributes["smi_mesh.reason"]) == ("smi_mesh.retry", "upstream-reset")


async def test_an_answer_that_breaks_off_is_an_error(net: Mesh) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await writer.drain()

    net.tracing = ALWAYS
    web, _ = await two_hops(net, half)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await ask(net, web)
    assert one(web).error == "truncated"


async def test_a_caller_that_leaves_is_no_error(net: Mesh) -> None:
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()

    net.tracing = ALWAYS
    web, api = await two_hops(net, silent)
    client = await net.client(web.outbound)
    client.send(get(API))
    await arrived.wait()
    client.reset()
    for pod in (web, api):
        await until(lambda pod=pod: pod.tracer.waiting)
        span = one(pod)
        assert (span.error, span.attributes["smi_mesh.reason"]) == ("", "client-gone")
        assert "http.response.status_code" not in span.attributes


async def test_a_connection_that_becomes_a_tunnel_has_its_span_by_then(net: Mesh) -> None:
    net.tracing = ALWAYS
    web, api = await two_hops(net, switching)
    client = await net.client(web.outbound)
    client.send(get(API, "/chat", *WEBSOCKET))
    assert (await client.receive()).status == 101
    outer, inner = one(web), one(api)
    assert inner.parent == outer.id
    assert [span.attributes["http.response.status_code"] for span in (outer, inner)] == [101, 101]


async def test_requests_of_one_connection_have_spans_of_their_own(net: Mesh) -> None:
    net.tracing, app = ALWAYS, Echo(answer=lambda _message: plain("x" * 100_000))
    web, api = await two_hops(net, app)
    client = await net.client(web.outbound)
    for _ in range(3):
        await client.ask(get(API))
    outer, inner = web.spans(), api.spans()
    assert [span.parent for span in inner] == [span.id for span in outer]
    assert len({span.trace for span in outer}) == 3
    assert {span.attributes["http.response.body.size"] for span in outer} == {100_000}


async def test_metrics_show_the_trace_as_an_exemplar(net: Mesh) -> None:
    net.tracing = ALWAYS
    web, _ = await two_hops(net, Echo())
    await ask(net, web)
    page = Page(openmetrics=True)
    own = Own("shop/web-1", "", web.identity)
    for _ in Istio("cluster.local").write(page, web.telemetry, own):
        pass
    assert one(web).trace in page.bytes().decode()


async def test_grpc_calls_have_spans(net: Mesh) -> None:
    net.tracing = ALWAYS
    web, api, server = await _shop(net)
    async with grpc_app.channel(web.outbound, API) as channel:
        call = channel.unary_unary("/shop.Echo/Unary")
        await call(b"hello", timeout=10, metadata=[("traceparent", f"00-{TRACE}-{CALLER}-01")])
    await server.stop(0)
    outer, inner = one(web), one(api)
    assert (outer.trace, outer.parent, inner.parent) == (TRACE, CALLER, outer.id)
    for span in (outer, inner):
        assert span.name == "shop.Echo/Unary"
        assert span.attributes["rpc.response.status_code"] == "OK"
        assert span.attributes["network.protocol.version"] == "2"


async def test_a_denied_grpc_call_has_its_denial(net: Mesh) -> None:
    net.tracing = ALWAYS
    web, api, server = await _shop(net, admit=False)
    async with grpc_app.channel(web.outbound, API) as channel:
        with pytest.raises(grpc_app.grpc.aio.AioRpcError):
            await channel.unary_unary("/shop.Echo/Unary")(b"hello", timeout=10)
    await server.stop(0)
    outer, inner = one(web), one(api)
    assert inner.parent == outer.id
    assert outer.error == "PERMISSION_DENIED"
    assert outer.attributes["smi_mesh.denial.id"] == inner.attributes["smi_mesh.denial.id"]
