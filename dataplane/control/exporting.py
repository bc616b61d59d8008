"""Sends finished spans away, in batches, off the hot path.

Spans are encoded in a thread that lets the event loop go first again and again, and sent by a task. A
collector that is slow, fails or is gone costs memory for the batch in hand and a full queue, nothing
else: what does not fit is dropped, and everything that does not arrive is counted
(`smi_mesh_spans_total`).
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from dataplane.control.backoff import Backoff
from dataplane.control.collector import Answer, Collector, CollectorError
from dataplane.settings import Settings, Tracing
from dataplane.telemetry import Own, Telemetry
from dataplane.tracing import otlp, zipkin
from dataplane.tracing.semantics import Attributes, Record, record, resource
from dataplane.tracing.tracer import Finished, Tracer

BATCH: Final = 512
"""Most spans of one request."""
LOOK_SECONDS: Final = 0.2
"""How often the queue is looked at."""
DELAY_SECONDS: Final = 1.0
"""How long a span waits for others to fill the batch."""
POST_SECONDS: Final = 10.0
"""How long one attempt may take."""
ATTEMPTS: Final = 5
CLOSE_SECONDS: Final = 2.0
"""How long the end of the process waits for the last spans."""
_FIRST_DELAY: Final = 0.5
_LAST_DELAY: Final = 8.0
_LONGEST_WISH: Final = 30.0
"""Seconds of a collector's Retry-After that are granted."""
_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed (OTLP, "Retryable Response Codes")."""
_WORTH_COMPRESSING: Final = 1024
_AT_ONCE: Final = 16
_COMPLAIN_SECONDS: Final = 60.0

_log = logging.getLogger("dataplane.tracing")


class Encoding(Protocol):
    """A module that writes spans."""

    CONTENT_TYPE: str

    def encode(self, records: Sequence[Record], resource: Attributes, version: str, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of an exporter, in seconds."""

    look: float = LOOK_SECONDS
    delay: float = DELAY_SECONDS
    post: float = POST_SECONDS
    first_retry: float = _FIRST_DELAY
    last_retry: float = _LAST_DELAY


class Exporter:
    """Sends the spans of one tracer. The counters say what became of those that were taken."""

    def __init__(
        self,
        wish: Tracing,
        tracer: Tracer,
        about: Attributes,
        own: Callable[[], Own],
        version: str,
        chance: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        """`about`: who tells (`semantics.resource`); `own` is asked for each batch."""
        self._tracer = tracer
        self._about = about
        self._own = own
        self._version = version
        self._pace = pace or Pace()
        self._otlp = wish.protocol == "otlp"
        content_type = otlp.CONTENT_TYPE if self._otlp else zipkin.CONTENT_TYPE
        self._collector = Collector(wish.url, content_type, wish.headers, wish.ca)
        self._backoff = Backoff(self._pace.first_retry, self._pace.last_retry, chance)
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._complained = -_COMPLAIN_SECONDS
        self.exported = 0
        self.rejected = 0
        """The collector took the batch, but not these."""
        self.failed = 0
        """Given up: the collector did not answer, or refused the batch."""

    async def run(self) -> None:
        """Send what comes, until `close`."""
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            while True:
                await self._pause(self._pace.look)
                waiting, closing = self._tracer.waiting, self._closing.is_set()
                if waiting >= BATCH or closing or loop.time() - sent >= self._pace.delay:
                    sent = loop.time()
                    while batch := self._tracer.take(BATCH):
                        await self._send(batch)
                        if len(batch) < BATCH and not closing:
                            break
                if closing:
                    return
        finally:
            self._collector.close()
            self._ended.set()

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what waits, with one attempt each and within `seconds`; `run` returns then."""
        self._closing.set()
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            left = self._tracer.waiting
            _log.warning("%s did not take the last spans in time; %d were not sent", self._where, left)

    @property
    def _where(self) -> str:
        return str(self._collector.url)

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the end has come."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _send(self, batch: list[Finished]) -> None:
        """Send one batch, again if that may help; counts what became of it."""
        body, zipped = await asyncio.to_thread(self._encode, batch)
        for attempt in range(1, ATTEMPTS + 1):
            wish = 0.0
            try:
                answer = await self._collector.post(body, gzip=zipped, seconds=self._pace.post)
            except CollectorError as error:
                problem = str(error)
            else:
                if answer.status // 100 == 2:
                    self._taken(len(batch), answer)
                    return
                problem, wish = f"it answered {answer.status}", min(answer.retry_after, _LONGEST_WISH)
                if answer.status not in _AGAIN:
                    break
            if attempt < ATTEMPTS and not self._closing.is_set():
                await self._pause(max(self._backoff.next(), wish))
        self.failed += len(batch)
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_SECONDS:
            self._complained = now
            _log.warning(
                "%d spans could not be sent to %s: %s; %d so far",
                len(batch),
                self._where,
                problem,
                self.failed,
            )

    def _taken(self, count: int, answer: Answer) -> None:
        self._backoff.reset()
        rejected = min(otlp.rejected(answer.body), count) if self._otlp else 0
        self.rejected += rejected
        self.exported += count - rejected

    def _encode(self, batch: list[Finished]) -> tuple[bytes, bool]:
        """The body, and whether it is compressed. Runs in a thread."""
        records = list(_told(batch, self._own()))
        write = otlp.encode if self._otlp else zipkin.encode
        body = write(records, self._about, self._version)
        if len(body) < _WORTH_COMPRESSING:
            return body, False
        return gzip.compress(body, 1, mtime=0), True


def _told(batch: list[Finished], own: Own) -> Iterator[Record]:
    for number, done in enumerate(batch):
        if number % _AT_ONCE == 0:
            time.sleep(0)  # the loop may have the interpreter
        yield record(done, own)


@dataclass(frozen=True, slots=True)
class Spans:
    """A process's part in traces: who makes spans and who sends them."""

    tracer: Tracer
    exporter: Exporter


def spans(
    settings: Settings, telemetry: Telemetry, own: Callable[[], Own], version: str, chance: Random
) -> Spans | None:
    """The parts that the settings ask for, and counters that say how they fare; None if they ask for none."""
    wish = settings.tracing
    if wish is None:
        return None
    # Ids and draws need spread, not secrecy: a quick source, seeded from a good one.
    quick = Random(chance.getrandbits(256))  # noqa: S311 - as said
    tracer = Tracer(wish.share, wish.forms, telemetry, time.time_ns, quick.random, quick.getrandbits)
    exporter = Exporter(wish, tracer, resource(settings), own, version, quick.random)
    telemetry.gauge(
        "smi_mesh_spans_total",
        "Spans by what became of them: dropped ones found the queue full.",
        ("outcome",),
        lambda: [
            (("exported",), exporter.exported),
            (("rejected",), exporter.rejected),
            (("failed",), exporter.failed),
            (("dropped",), tracer.dropped),
        ],
        "counter",
    )
    telemetry.gauge(
        "smi_mesh_spans_waiting", "Finished spans not sent yet.", (), lambda: [((), tracer.waiting)]
    )
    return Spans(tracer, exporter)
