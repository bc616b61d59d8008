"""Spans on their way to a collector over real sockets: what arrives, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from dataplane.control.collector import Collector as HttpClient
from dataplane.control.exporting import BATCH, Exporter, Pace
from dataplane.settings import CollectorUrl, Tracing, settings_from
from dataplane.tasks import Tasks
from dataplane.telemetry import Own, Telemetry
from dataplane.tracing.tracer import MAX_WAITING, Tracer
from dataplane.wire.http1 import parse_request
from tests.dataplane.control.authority import Authority
from tests.dataplane.tracing.stand_in import Collector, collecting
from tests.dataplane.waiting import until

OWN = Own("shop/web-1", "Deployment/web/web", "spiffe://cluster.local/ns/shop/sa/web")
ABOUT: dict[str, Any] = {"service.name": "web"}
QUICK = Pace(look=0.005, delay=0.01, post=2.0, first_retry=0.005, last_retry=0.02)


class Source:
    """A tracer that is told of requests, and the exporter behind it."""

    def __init__(self, wish: Tracing, pace: Pace) -> None:
        chance = Random(1)
        self.telemetry = Telemetry()
        self._series = self.telemetry.http_series("inbound", "", "shop/web", "")
        self.tracer = Tracer(1.0, ("w3c",), self.telemetry, time.time_ns, chance.random, chance.getrandbits)
        self.exporter = Exporter(wish, self.tracer, ABOUT, lambda: OWN, "1", chance.random, pace)

    def serve(self, count: int, *, size: int = 0) -> None:
        """So many requests come and go."""
        for _ in range(count):
            head = parse_request(b"GET /%b HTTP/1.1\r\nhost: web\r\n\r\n" % (b"x" * size))
            span = self.tracer.begin(head)
            assert span is not None
            now = time.perf_counter()
            self.tracer.finish(span, self._series, head, 200, "", "", False, now - 0.001, now)


@asynccontextmanager
async def source(wish: Tracing, pace: Pace = QUICK) -> AsyncIterator[Source]:
    made = Source(wish, pace)
    tasks = Tasks()
    tasks.start("spans", made.exporter.run())
    try:
        yield made
    finally:
        await tasks.cancel()


def wish(collector: Collector, protocol: str = "otlp", **rest: Any) -> Tracing:
    path = {"otlp": "/v1/traces", "zipkin": "/api/v2/spans"}[protocol]
    url = CollectorUrl("127.0.0.1", collector.port, path, collector.url.startswith("https"))
    return Tracing(url, protocol, **rest)


@pytest.mark.parametrize("protocol", ["otlp", "zipkin"])
async def test_spans_arrive_in_batches_over_one_connection(protocol: str) -> None:
    with collecting() as collector:
        async with source(wish(collector, protocol)) as spans:
            spans.serve(BATCH + 3)
            await until(lambda: len(collector.spans) == BATCH + 3)
            spans.serve(2)
            await until(lambda: spans.exporter.exported == BATCH + 5)
        assert len(collector.requests) <= 4
        assert collector.connections == 1
        assert {request.fields["content-encoding"] for request in collector.requests[:1]} == {"gzip"}
        assert {span.service for span in collector.spans} == {"web"}
        assert len({span.id for span in collector.spans}) == BATCH + 5


async def test_a_small_body_is_not_compressed_and_fields_of_the_setting_are_sent() -> None:
    with collecting() as collector:
        async with source(wish(collector, headers=(("x-token", "a secret"),))) as spans:
            spans.serve(1)
            await until(lambda: collector.requests)
        (request,) = collector.requests
        assert "content-encoding" not in request.fields
        assert request.fields["x-token"] == "a secret"
        assert request.fields["host"] == f"127.0.0.1:{collector.port}"


async def test_a_collector_that_is_away_is_asked_again_until_it_is_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens
        away = Tracing(CollectorUrl("127.0.0.1", held.getsockname()[1], "/v1/traces"))
        async with source(away) as spans:
            spans.serve(2)
            await until(lambda: spans.exporter.failed == 2)
            assert spans.exporter.exported == 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_may_succeed_later_is_sent_again(status: int) -> None:
    with collecting() as collector:
        collector.script.statuses = [status, status, 200]
        async with source(wish(collector)) as spans:
            spans.serve(1)
            await until(lambda: spans.exporter.exported == 1)
        assert (len(collector.requests), collector.asked, spans.exporter.failed) == (1, 3, 0)


async def test_what_is_refused_for_good_is_counted_and_not_sent_again() -> None:
    with collecting() as collector:
        collector.script.statuses = [400, 200]
        async with source(wish(collector)) as spans:
            spans.serve(3)
            await until(lambda: spans.exporter.failed == 3)
            spans.serve(1)
            await until(lambda: spans.exporter.exported == 1)
        assert collector.asked == 2


async def test_a_wish_to_be_left_alone_is_heard_and_ends_with_the_process() -> None:
    with collecting() as collector:
        collector.script.statuses, collector.script.fields = [503, 503, 200], {"retry-after": "30"}
        client = HttpClient(CollectorUrl("127.0.0.1", collector.port, "/v1/traces"), "text/plain", (), "")
        answer = await client.post(b"x", gzip=False, seconds=5.0)
        client.close()
        assert (answer.status, answer.retry_after) == (503, 30.0)
        async with source(wish(collector)) as spans:
            spans.serve(1)
            await until(lambda: collector.asked == 2)
            await spans.exporter.close(5.0)
            assert spans.exporter.exported == 1


async def test_spans_that_a_collector_rejects_are_counted() -> None:
    with collecting() as collector:
        collector.script.rejects = 2
        async with source(wish(collector)) as spans:
            spans.serve(5)
            await until(lambda: spans.exporter.rejected)
        assert (spans.exporter.exported, spans.exporter.rejected) == (3, 2)


async def test_a_collector_that_never_answers_costs_a_full_queue_and_no_request() -> None:
    with collecting() as collector:
        collector.script.silent = Event()
        pace = Pace(look=0.005, delay=0.01, post=30.0)
        async with source(wish(collector), pace) as spans:
            spans.serve(1)
            await until(lambda: collector.asked)
            spans.serve(MAX_WAITING + 7)
            assert (spans.tracer.waiting, spans.tracer.dropped) == (MAX_WAITING, 7)


async def test_an_answer_that_does_not_come_in_time_is_a_failure() -> None:
    with collecting() as collector:
        collector.script.silent = Event()
        async with source(wish(collector), Pace(0.005, 0.01, 0.05, 0.001, 0.002)) as spans:
            spans.serve(4)
            await until(lambda: spans.exporter.failed == 4)
        assert collector.asked == 5


async def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """The stand-in closes each connection after its answer without saying so."""
    asked = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        asked.append(await reader.readexactly(int(length.partition(b":")[2])))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, source(Tracing(CollectorUrl("127.0.0.1", port, "/"))) as spans:
        for number in range(1, 4):
            spans.serve(1)
            await until(lambda number=number: spans.exporter.exported == number)
    assert (len(asked), spans.exporter.failed) == (3, 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 99999,
    ],
    ids=["no HTTP", "half an answer", "an endless answer"],
)
async def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, source(Tracing(CollectorUrl("127.0.0.1", port, "/"))) as spans:
        spans.serve(1)
        await until(lambda: spans.exporter.failed == 1)


async def test_a_collector_behind_tls_must_prove_itself(tmp_path: Path) -> None:
    authority = Authority()
    key, certificate = authority.issue("spiffe://cluster.local/ns/o11y/sa/collector", ["localhost"])
    (tmp_path / "server.pem").write_text(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with collecting(context=context) as collector:
        url = CollectorUrl("localhost", collector.port, "/v1/traces", secure=True)
        async with source(Tracing(url, ca=authority.bundle)) as spans:
            spans.serve(1)
            await until(lambda: spans.exporter.exported == 1)
        for ca, host in ((Authority().bundle, "localhost"), (authority.bundle, "127.0.0.1")):
            other = Tracing(CollectorUrl(host, collector.port, "/v1/traces", secure=True), ca=ca)
            async with source(other) as spans:
                spans.serve(1)
                await until(lambda spans=spans: spans.exporter.failed == 1)
        assert len(collector.requests) == 1


async def test_what_waits_is_sent_at_the_end() -> None:
    with collecting() as collector:
        async with source(wish(collector), Pace(look=60, delay=60)) as spans:
            spans.serve(BATCH * 2 + 1)
            await asyncio.sleep(0)
            await spans.exporter.close(5.0)
            assert spans.exporter.exported == BATCH * 2 + 1


async def test_the_end_does_not_wait_for_a_collector_for_long() -> None:
    with collecting() as collector:
        collector.script.silent = Event()
        async with source(wish(collector), Pace(look=60, delay=60)) as spans:
            spans.serve(1)
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await spans.exporter.close(0.05)


async def test_the_end_makes_one_attempt_for_each_batch() -> None:
    with collecting() as collector:
        collector.script.statuses = [503]
        pace = Pace(look=60, delay=60, first_retry=60, last_retry=60)
        async with source(wish(collector), pace) as spans:
            spans.serve(1)
            await asyncio.sleep(0)
            await spans.exporter.close(5.0)
        assert spans.exporter.failed == 1


def test_a_secret_of_the_setting_is_in_no_text_of_it() -> None:
    settings = settings_from(
        {
            "POD_NAMESPACE": "shop",
            "POD_NAME": "web-1",
            "POD_IP": "10.0.0.1",
            "SMI_MESH_TRUST_BUNDLE": "-----BEGIN CERTIFICATE-----",
            "SMI_MESH_TRACING": "http://collector:4318",
            "SMI_MESH_TRACING_HEADERS": "authorization=Bearer%20s3cr3t",
        }
    )
    assert settings.tracing is not None
    assert settings.tracing.headers == (("authorization", "Bearer s3cr3t"),)
    assert "s3cr3t" not in repr(settings)
