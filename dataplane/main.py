"""The composition root: settings → identity → config stream → listeners → admin, and their end.

Everything that decides is made elsewhere; here the parts get their clock, their randomness and each
other. The proxy is ready when it has a certificate, a first config and its listeners, and stops
being so when it drains.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import uvloop

from dataplane import VERSION, gauges, process, serve
from dataplane.accesslog import pump
from dataplane.admin import Admin, Views
from dataplane.appchecks import CheckFailed, perform
from dataplane.control.discovery import Discovery
from dataplane.control.exporting import Spans, spans
from dataplane.control.identity import Identity
from dataplane.control.leaving import Leaving
from dataplane.control.tapping import Tapping, follow
from dataplane.exposition import Exposition
from dataplane.samples import TICK_SECONDS, Ring
from dataplane.settings import Check, Settings, SettingsError, settings_from, worker_count
from dataplane.state import State
from dataplane.tap import Tap
from dataplane.tasks import Tasks
from dataplane.telemetry import Own, Telemetry
from dataplane.workers.crew import Crew
from dataplane.workers.worker import Worker
from smi.names import APP_CHECKS, WITHDRAWN

SWEEP_SECONDS: Final = 60.0

_log = logging.getLogger("dataplane.main")


@dataclass(slots=True)
class Proxy:
    """The parts of one sidecar, and how far it is."""

    settings: Settings
    state: State
    telemetry: Telemetry
    identity: Identity
    discovery: Discovery
    intercepted: Sequence[serve.Intercepted] = ()
    """The sockets of UDP interception of each process that serves, where there is any."""
    crew: Crew | None = None
    """The processes that serve, if it is not this one."""
    tap: Tap = field(default_factory=Tap)
    spans: Spans | None = None
    listening: bool = False
    draining: bool = False

    def unready(self) -> str:
        """Why the proxy must not get traffic, or "" if it may."""
        if self.draining:
            return "draining"
        if not self.identity.renewals:
            return "no certificate yet"
        if not self.identity.ready:
            return "the certificate has expired"
        if self.state.inbound is None:
            return "no config from the controller yet"
        if not self.listening:
            return "the listeners are not open yet"
        return "no worker serves" if self.crew is not None and not self.crew.serving else ""

    def own(self) -> Own:
        """Whom it speaks for, as far as it is known by now."""
        access = self.state.inbound
        identity = access.inbound.identity if access is not None else ""
        return Own(self.settings.pod_name, self.settings.workload, identity)


def compose(settings: Settings, intercepted: Sequence[serve.Intercepted] = ()) -> Proxy:
    """Make the parts; nothing runs yet."""
    chance = random.SystemRandom()
    state = State(phase=chance.getrandbits(31))
    telemetry = Telemetry(counting=settings.counting)
    identity = Identity(settings, time.time, chance.random)
    discovery = Discovery(settings, state, identity, VERSION, chance.random)
    gauges.register(telemetry, state, identity, discovery)
    many = settings.workers > 1  # then each of them keeps an access log
    log = None if many else gauges.access_log(settings.access_log, telemetry, chance.random)
    tap, crew = Tap(telemetry, time.time, log), None
    if many:
        crew = Crew(settings, state, telemetry, identity, discovery, chance.random, intercepted)
    else:
        follow(discovery, Tapping(tap, discovery.say))
    proxy = Proxy(settings, state, telemetry, identity, discovery, intercepted, crew, tap=tap)
    if not many:
        proxy.spans = spans(settings, telemetry, proxy.own, VERSION, chance)
    return proxy


async def run(proxy: Proxy) -> int:
    """Run the sidecar until SIGTERM or SIGINT, or until a part of it fails; returns the exit code."""
    stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(exit_code: int) -> None:
        if not stop.done():
            stop.set_result(exit_code)

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, end, 0)
    settings = proxy.settings
    tasks = Tasks(lambda _name, _failure: end(1))
    ring = Ring(proxy.telemetry, time.time())
    exposition = Exposition(proxy.telemetry, proxy.own, settings.cluster_domain, settings.metrics)
    views = Views(
        proxy.unready,
        exposition.scrape,
        lambda window: ring.samples(proxy.own(), time.time(), window),
        proxy.state.describe,
        _refreshed(proxy.crew, tasks),
        _slow(settings, Leaving(proxy.discovery), tasks),
    )
    admin = Admin(views, settings.pod_ip)
    await admin.start(settings.bind, settings.admin_port)
    try:
        tasks.start("samples", _tick(ring, proxy.crew))
        starting = tasks.start("start", _start(proxy, tasks))
        exit_code = await stop
        proxy.draining = True
        _log.info("stopping with exit code %d", exit_code)
        if proxy.crew is not None:
            await proxy.crew.drain(settings.drain_seconds)
        elif proxy.listening and (running := starting.result()) is not None:
            await running.drain(settings.drain_seconds)
            if proxy.spans is not None:
                await proxy.spans.exporter.close()
    finally:
        await tasks.cancel()
        await admin.stop()
    return exit_code


async def _start(proxy: Proxy, tasks: Tasks) -> serve.Running | None:
    """Everything that must have happened before the proxy is ready."""
    began = time.monotonic()
    if proxy.crew is not None:
        proxy.crew.start()
    await proxy.identity.obtain()
    tasks.start("certificate renewal", proxy.identity.keep_current())
    tasks.start("config stream", proxy.discovery.run())
    tasks.start("sweep", _sweep(proxy.state, proxy.crew))
    if proxy.tap.log is not None:
        tasks.start("access log", pump(proxy.tap.log))
    if proxy.spans is not None:
        tasks.start("spans", proxy.spans.exporter.run())
    await proxy.state.wait_configured()
    running = None
    if proxy.crew is not None:
        await proxy.crew.all_serving()
    else:
        running = await serve.start(
            proxy.settings,
            proxy.state,
            proxy.identity,
            proxy.telemetry,
            intercepted=proxy.intercepted[0] if proxy.intercepted else None,
            tap=proxy.tap,
            tracer=None if proxy.spans is None else proxy.spans.tracer,
        )
    proxy.listening = True
    process.freeze_heap()
    _log.info("ready after %.0f ms, revision %d", (time.monotonic() - began) * 1e3, proxy.state.revision)
    return running


def _refreshed(crew: Crew | None, tasks: Tasks) -> Callable[[Callable[[], None]], None]:
    """As `Views.refresh`: at once, or when the workers' counts are here."""

    async def collected(crew: Crew, then: Callable[[], None]) -> None:
        await crew.collect()
        then()

    def refresh(then: Callable[[], None]) -> None:
        if crew is None:
            then()
        else:
            tasks.start("scrape", collected(crew, then))

    return refresh


def _slow(settings: Settings, leaving: Leaving, tasks: Tasks) -> Callable[[str, Callable[[str], None]], bool]:
    """As `Views.begin`: the app's probes and hooks, and the wait before it is ended."""

    async def withdrawn(then: Callable[[str], None]) -> None:
        in_time = await leaving.withdrawn(settings.withdraw_seconds)
        then("" if in_time else "callers may still send to this pod")

    async def checked(check: Check, then: Callable[[str], None]) -> None:
        try:
            await perform(check, settings.pod_ip)
        except CheckFailed as failure:
            then(str(failure))
        else:
            then("")

    def begin(path: str, then: Callable[[str], None]) -> bool:
        if path == WITHDRAWN:
            tasks.start("withdrawal", withdrawn(then))
            return True
        check = settings.app_checks.get(path.removeprefix(APP_CHECKS))
        if check is not None:
            tasks.start("app check", checked(check, then))
        return check is not None

    return begin


async def _tick(ring: Ring, crew: Crew | None) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        if crew is not None:
            await crew.collect()
        ring.tick(time.time())


async def _sweep(state: State, crew: Crew | None) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        if crew is not None:
            crew.keep_used()
        gone = state.sweep()
        if gone:
            _log.debug("gave up %d idle destinations", len(gone))


def main(environ: Mapping[str, str], arguments: Sequence[str] = ()) -> int:
    """Exit code 0 after a drain, 1 if a part failed, 2 if environment or arguments are not understood.

    `--workers N` goes before the environment's number. `--worker` and descriptors make this process
    one of those; only the first process starts such.
    """
    try:
        settings = settings_from(environ)
        option, value = _option(arguments)
        if option == "--workers":
            settings = replace(settings, workers=worker_count(option, value))
    except SettingsError as error:
        sys.stderr.write(f"dataplane: {error}\n")
        return 2
    process.log_to_stderr(settings.log_level)
    process.keep_read_buffers()
    process.raise_file_limit()
    if option == "--worker":
        if settings.udp:
            process.drop_capabilities()
        count, _, descriptors = value.partition(":")
        settings = replace(settings, workers=int(count))
        return _run(Worker(settings, [int(descriptor) for descriptor in descriptors.split(",")]).run())
    try:
        intercepted = _intercept_udp(settings)
    except OSError as error:
        _log.error("%s", error)
        return 1
    return _run(run(compose(settings, intercepted)))


def _run(process_life: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(process_life)


def _option(arguments: Sequence[str]) -> tuple[str, str]:
    """The one option and its value, or two empty texts. Raises SettingsError."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    if not words:
        return "", ""
    if len(words) != 2 or words[0] not in ("--workers", "--worker") or not words[1]:
        raise SettingsError(f"the only argument is --workers N, got {' '.join(arguments)[:80]!r}")
    return words[0], words[1]


def _intercept_udp(settings: Settings) -> tuple[serve.Intercepted, ...]:
    """Open what takes a capability while there is one and only one thread; then have none. Raises OSError."""
    if not settings.udp:
        return ()
    # Kept open here as well: a worker that replaces another goes on with the same sockets.
    intercepted = tuple(
        serve.open_intercepted(
            settings.bind, settings.outbound_port, settings.inbound_port, shared=settings.workers > 1
        )
        for _ in range(settings.workers)
    )
    process.drop_capabilities()
    return intercepted
