"""Spans in both protocols, read by others' definitions: OpenTelemetry's protobuf classes, Zipkin's schema."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from dataplane.settings import Settings
from dataplane.telemetry import Own
from dataplane.tracing import otlp, zipkin
from dataplane.tracing.semantics import Event, Record, record, resource
from tests.dataplane.tracing.records import OWN, PARENT, START, TRACE, finished
from tests.dataplane.tracing.stand_in import read_otlp, read_zipkin

WEB = Own("shop/web-1", "Deployment/web/web", "spiffe://cluster.local/ns/shop/sa/web")
ABOUT = {"service.name": "web", "k8s.pod.ip": "10.0.0.1"}

texts = st.text(st.characters(codec="utf-8"), max_size=200)
records = st.builds(
    Record,
    trace=st.binary(min_size=16, max_size=16).map(bytes.hex),
    id=st.binary(min_size=8, max_size=8).map(bytes.hex),
    parent=st.one_of(st.just(""), st.binary(min_size=8, max_size=8).map(bytes.hex)),
    state=texts,
    name=texts,
    server=st.booleans(),
    start=st.integers(1_000, (1 << 63) - 1),
    end=st.integers(1_000, (1 << 63) - 1),
    attributes=st.dictionaries(texts, st.one_of(texts, st.integers(-(1 << 63), (1 << 63) - 1)), max_size=5),
    events=st.lists(
        st.builds(Event, st.integers(0, (1 << 63) - 1), texts, st.dictionaries(texts, texts, max_size=3)),
        max_size=3,
    ).map(tuple),
    error=texts,
    peer=texts,
)


@settings(max_examples=40)
@given(st.lists(records, max_size=4))
def test_otlp_says_what_the_records_say(spans: list[Record]) -> None:
    told = read_otlp(otlp.encode(spans, ABOUT, "1"))
    assert [
        (one.trace, one.id, one.parent, one.state, one.name, one.kind == "SERVER", one.start, one.end)
        for one in told
    ] == [(r.trace, r.id, r.parent, r.state, r.name, r.server, r.start, r.end) for r in spans]
    assert [(one.attributes, one.error, one.resource) for one in told] == [
        (r.attributes, bool(r.error), ABOUT) for r in spans
    ]
    assert [one.events for one in told] == [[(e.name, e.attributes) for e in r.events] for r in spans]


@settings(max_examples=20)
@given(st.lists(records, max_size=4))
def test_zipkin_says_what_the_records_say(spans: list[Record]) -> None:
    told = read_zipkin(zipkin.encode(spans, ABOUT, "1"))
    assert [(one.trace, one.id, one.parent, one.name, one.kind == "SERVER") for one in told] == [
        (r.trace, r.id, r.parent, r.name.lower(), r.server) for r in spans
    ]
    assert [one.events for one in told] == [[(e.name, e.attributes) for e in r.events] for r in spans]
    assert [one.service for one in told] == ["web"] * len(spans)


def test_a_parent_of_another_process_is_marked_as_remote() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    head = record(finished(parent=b""), WEB)
    request.ParseFromString(otlp.encode([record(finished(), WEB), head], ABOUT, "1"))
    (scope,) = request.resource_spans[0].scope_spans
    assert [span.flags for span in scope.spans] == [0x301, 0x101]


@given(st.integers(1, (1 << 63) - 1), texts)
def test_what_a_collector_did_not_take_is_read(count: int, why: str) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = count
    answer.partial_success.error_message = why
    assert otlp.rejected(answer.SerializeToString()) == count


@given(st.binary(max_size=100))
def test_an_answer_that_is_no_message_says_nothing(answer: bytes) -> None:
    assert otlp.rejected(answer) >= 0


def test_a_clients_span() -> None:
    one = record(
        finished(
            to="10.0.0.2",
            to_port=8080,
            downloaded=7,
            retries=[(START + 1, "connect-failed", "10.0.0.9", 8080)],
        ),
        WEB,
    )
    assert (one.trace, one.id, one.parent, one.state) == (
        TRACE.decode(),
        OWN.decode(),
        PARENT.decode(),
        "a=1,b=2",
    )
    assert (one.name, one.server, one.start, one.end, one.error) == (
        "GET",
        False,
        START,
        START + 5_000_000,
        "",
    )
    assert one.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": "http://api.shop:8080/items",
        "http.request.resend_count": 1,
        "http.response.body.size": 7,
        "user_agent.original": "test/1",
        "server.address": "api.shop",
        "server.port": 8080,
        "network.protocol.version": "1.1",
        "network.peer.address": "10.0.0.2",
        "network.peer.port": 8080,
        "smi_mesh.direction": "outbound",
        "smi_mesh.source.identity": "spiffe://cluster.local/ns/shop/sa/web",
        "smi_mesh.destination.identity": "spiffe://cluster.local/ns/shop/sa/api",
        "smi_mesh.peer.pod": "shop/api-1",
        "smi_mesh.peer.workload": "Deployment/api-v1/api",
        "smi_mesh.service": "shop/api",
        "smi_mesh.backend": "shop/api-v1",
        "smi_mesh.split": "shop/split",
        "smi_mesh.request_id": "id-1",
    }
    assert one.events == (
        Event(
            START + 1,
            "smi_mesh.retry",
            {
                "smi_mesh.reason": "connect-failed",
                "network.peer.address": "10.0.0.9",
                "network.peer.port": 8080,
            },
        ),
    )


def test_a_servers_span_of_a_denial() -> None:
    one = record(
        finished("inbound", status=403, reason="no-grant", denial="no-grant; id=0123456789abcdef"), WEB
    )
    assert (one.server, one.error) == (True, "")  # a 4xx is no error of the server
    attributes = one.attributes
    assert attributes["smi_mesh.denial.reason"] == "no-grant"
    assert attributes["smi_mesh.denial.id"] == "0123456789abcdef"
    assert attributes["smi_mesh.source.identity"] == "spiffe://cluster.local/ns/shop/sa/api"
    assert attributes["smi_mesh.destination.identity"] == WEB.identity
    assert (attributes["url.scheme"], attributes["url.path"]) == ("http", "/items")
    assert "smi_mesh.reason" not in attributes
    assert "url.full" not in attributes


@pytest.mark.parametrize(
    ("direction", "said", "error"),
    [
        ("outbound", {"status": 404}, "404"),
        ("inbound", {"status": 404}, ""),
        ("inbound", {"status": 500}, "500"),
        ("outbound", {"status": 503, "reason": "connect-failed"}, "connect-failed"),
        ("outbound", {"status": 200, "reason": "truncated"}, "truncated"),
        ("outbound", {"status": 0, "reason": "client-gone"}, ""),
        ("outbound", {"rpc": True, "grpc": "0"}, ""),
        ("outbound", {"rpc": True, "grpc": "5"}, "NOT_FOUND"),
        ("inbound", {"rpc": True, "grpc": "5"}, ""),
        ("inbound", {"rpc": True, "grpc": "14"}, "UNAVAILABLE"),
        ("outbound", {"rpc": True, "grpc": "99"}, "_OTHER"),
        ("outbound", {"rpc": True, "grpc": "", "status": 502}, "502"),
        ("outbound", {"rpc": True, "grpc": "", "reason": "truncated"}, "truncated"),
    ],
)
def test_what_is_an_error(direction: str, said: dict[str, object], error: str) -> None:
    one = record(finished(direction, **said), WEB)  # type: ignore[arg-type]  # fields of several types
    assert one.error == error
    assert one.attributes.get("error.type", "") == error


def test_a_grpc_call() -> None:
    one = record(finished(path=b"/shop.Echo/Unary", method=b"POST", rpc=True, grpc="4", minor=2), WEB)
    assert one.name == "shop.Echo/Unary"
    assert one.attributes["rpc.system.name"] == "grpc"
    assert one.attributes["rpc.method"] == "shop.Echo/Unary"
    assert one.attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert one.attributes["network.protocol.version"] == "2"
    assert "http.request.method" not in one.attributes


def test_a_method_that_the_conventions_do_not_know() -> None:
    one = record(finished(method=b"PURGE", host=b"no host at all"), WEB)
    assert (one.name, one.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert one.attributes["http.request.method_original"] == "PURGE"
    assert "server.address" not in one.attributes


def test_texts_of_a_request_are_cut() -> None:
    one = finished(path=b"/" + b"x" * 10_000, host=b"h" * 10_000)
    assert len(one.path) == len(one.host) == 256


def test_who_tells() -> None:
    pod = Settings("shop", "web-1", "10.0.0.1", "", workload="Deployment/web/shop-web/v2")
    assert resource(pod) == {
        "service.name": "web",
        "service.namespace": "shop",
        "service.version": "v2",
        "service.instance.id": "shop/web-1",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "web-1",
        "k8s.pod.ip": "10.0.0.1",
        "k8s.deployment.name": "web",
    }
    assert resource(replace(pod, workload=""))["service.name"] == "web-1"
