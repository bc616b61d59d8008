"""Where numbers come from: every proxy asked directly, with bounds on how many at once and how long; or a
Prometheus.

A proxy keeps the last minute of its counters itself, so one request to each gives a whole window. What does
not answer in time is reported as missing, never waited for and never made up.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp

from controller.compile.world import Pod
from controller.metricsapi import promql
from controller.metricsapi.samples import Samples, SamplesError, parse_samples
from controller.tasks import Tasks
from smi.names import ADMIN_PORT, NamespacedName

_log = logging.getLogger(__name__)

WINDOW_SECONDS: Final = 30
AT_ONCE: Final = 64
"""Connections to proxies at one time, of all queries together."""
ONE_SECONDS: Final = 2.0
ALL_SECONDS: Final = 8.0
"""Less than the time-outs of the clients that ask: a partial answer beats none."""
FRESH_SECONDS: Final = 1.0
"""An answer is shared by all queries of this long: `topology` asks once per resource."""
MAX_ANSWER: Final = 4 * 1024 * 1024
MAX_KEPT: Final = 10_000
MAX_VECTOR: Final = 64 * 1024 * 1024
"""Bytes of an answer of Prometheus."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Samples of the pods that answered, and the pods that should have but did not."""

    samples: tuple[Samples, ...]
    asked: int = 0
    missing: tuple[NamespacedName, ...] = ()

    @property
    def down(self) -> bool:
        """There was somebody to ask and nobody answered."""
        return bool(self.missing) and not self.samples


class Source(Protocol):
    """Whoever can say what these pods sent and received in the last `window_seconds`."""

    window_seconds: int

    async def gather(self, pods: Sequence[Pod]) -> Gathered: ...

    async def close(self) -> None: ...


class ProxySource:
    """Asks each pod's own proxy on its admin port."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        port: int = ADMIN_PORT,
        at_once: int = AT_ONCE,
        one_seconds: float = ONE_SECONDS,
        all_seconds: float = ALL_SECONDS,
    ) -> None:
        """`clock` is monotonic, in seconds."""
        self.window_seconds = WINDOW_SECONDS
        self._clock = clock
        self._port = port
        self._at_once = asyncio.Semaphore(at_once)
        self._one_seconds = one_seconds
        self._all_seconds = all_seconds
        self._fresh: dict[NamespacedName, tuple[float, Samples]] = {}
        self._asking: dict[NamespacedName, asyncio.Task[Samples | None]] = {}
        self._tasks = Tasks()
        self._session: aiohttp.ClientSession | None = None

    async def gather(self, pods: Sequence[Pod]) -> Gathered:
        """Within `all_seconds`; queries that ask for the same pod at the same time share one request."""
        now = self._clock()
        found: dict[NamespacedName, Samples] = {}
        asking: dict[NamespacedName, asyncio.Task[Samples | None]] = {}
        for pod in pods:
            known = self._fresh.get(pod.name)
            if known is not None and now - known[0] < FRESH_SECONDS:
                found[pod.name] = known[1]
            else:
                asking[pod.name] = self._ask(pod)
        if asking:
            done, _ = await asyncio.wait(asking.values(), timeout=self._all_seconds)
            for name, task in asking.items():
                samples = task.result() if task in done and not task.cancelled() else None
                if samples is not None:
                    found[name] = samples
        # A pod that is not ready may not have its proxy up yet: its silence means nothing.
        missing = tuple(pod.name for pod in pods if pod.ready and pod.name not in found)
        return Gathered(tuple(found[name] for name in sorted(found)), len(pods), missing)

    async def close(self) -> None:
        await self._tasks.cancel()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _ask(self, pod: Pod) -> asyncio.Task[Samples | None]:
        task = self._asking.get(pod.name)
        if task is None:
            task = self._asking[pod.name] = self._tasks.start(f"samples of {pod.name}", self._scrape(pod))
            task.add_done_callback(lambda _: self._asking.pop(pod.name, None))
        return task

    async def _scrape(self, pod: Pod) -> Samples | None:
        """None if the proxy does not answer, or not usefully; the log says why."""
        async with self._at_once:
            try:
                async with asyncio.timeout(self._one_seconds):
                    text = await self._read(pod.ips)
                samples = parse_samples(json.loads(text), pod.name)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
                self._fresh.pop(pod.name, None)
                _log.info("no samples of %s: %s", pod.name, error or type(error).__name__)
                return None
        self._keep(pod.name, samples)
        return samples

    async def _read(self, ips: Iterable[str]) -> bytes:
        host = _preferred(ips)
        url = f"http://{host}:{self._port}/samples?window={self.window_seconds}"
        async with self._client().get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise SamplesError(f"its proxy answers {answer.status}")
            text = bytearray()
            async for chunk in answer.content.iter_chunked(64 * 1024):
                text += chunk
                if len(text) > MAX_ANSWER:
                    raise SamplesError(f"its proxy answers more than {MAX_ANSWER} bytes")
            return bytes(text)

    def _keep(self, name: NamespacedName, samples: Samples) -> None:
        now = self._clock()
        if len(self._fresh) >= MAX_KEPT:
            self._fresh = {key: kept for key, kept in self._fresh.items() if now - kept[0] < FRESH_SECONDS}
        self._fresh[name] = (now, samples)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # `_at_once` is the bound; proxies close after each answer, so nothing is worth keeping.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session


class PrometheusSource:
    """Asks a Prometheus that scrapes the sidecars: one query for all of them."""

    def __init__(self, url: str, clock: Callable[[], float], *, seconds: float = ALL_SECONDS) -> None:
        """`url` is its root, such as http://prometheus.monitoring:9090. `clock` is monotonic, in seconds."""
        self.window_seconds = promql.WINDOW_SECONDS
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._clock = clock
        self._seconds = seconds
        self._fresh: tuple[float, list[Samples]] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def gather(self, pods: Sequence[Pod]) -> Gathered:
        """Every pod counts as missing if Prometheus does not answer usefully; the log says why."""
        names = [pod.name for pod in pods]
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._ask()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            _log.warning("Prometheus at %s: %s", self._url, error or type(error).__name__)
            return Gathered((), len(names), tuple(names))
        return Gathered(promql.chosen(found, names), len(names))

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self) -> list[Samples]:
        async with self._one_at_a_time:
            if self._fresh is None or self._clock() - self._fresh[0] >= FRESH_SECONDS:
                self._fresh = (self._clock(), promql.read_vector(json.loads(await self._read())))
            return self._fresh[1]

    async def _read(self) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        form = {"query": promql.QUERY, "timeout": f"{self._seconds:g}s"}
        async with self._session.post(self._url, data=form, allow_redirects=False) as answer:
            text = bytearray()
            async for chunk in answer.content.iter_chunked(64 * 1024):
                text += chunk
                if len(text) > MAX_VECTOR:
                    raise SamplesError(f"answers more than {MAX_VECTOR} bytes")
            if answer.status != 200:
                raise SamplesError(f"answers {answer.status}: {text[:200].decode(errors='replace')}")
            return bytes(text)


def _preferred(ips: Iterable[str]) -> str:
    """An IPv4 address if there is one, in the form of a URL."""
    first = min(ips, key=lambda ip: (":" in ip, ip))
    return f"[{first}]" if ":" in first else first
