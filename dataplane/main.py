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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import uvloop

from dataplane import VERSION, gauges, process, serve
from dataplane.admin import Admin, Views
from dataplane.control.discovery import Discovery
from dataplane.control.identity import Identity
from dataplane.exposition import Exposition
from dataplane.samples import TICK_SECONDS, Ring
from dataplane.settings import Settings, SettingsError, settings_from
from dataplane.state import State
from dataplane.tasks import Tasks
from dataplane.telemetry import Own, Telemetry

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
    intercepted: serve.Intercepted | None = None
    """The sockets of UDP interception, where there is any."""
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
        return "" if self.listening else "the listeners are not open yet"

    def own(self) -> Own:
        """Whom it speaks for, as far as it is known by now."""
        access = self.state.inbound
        identity = access.inbound.identity if access is not None else ""
        return Own(self.settings.pod_name, self.settings.workload, identity)


def compose(settings: Settings, intercepted: serve.Intercepted | None = None) -> Proxy:
    """Make the parts; nothing runs yet."""
    chance = random.SystemRandom()
    state = State(phase=chance.getrandbits(31))
    telemetry = Telemetry()
    identity = Identity(settings, time.time, chance.random)
    discovery = Discovery(settings, state, identity, VERSION, chance.random)
    gauges.register(telemetry, state, identity, discovery)
    return Proxy(settings, state, telemetry, identity, discovery, intercepted)


async def run(proxy: Proxy) -> int:
    """Run the sidecar until SIGTERM or SIGINT, or until a part of it fails; returns the exit code."""
    stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(exit_code: int) -> None:
        if not stop.done():
            stop.set_result(exit_code)

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, end, 0)
    settings = proxy.settings
    ring = Ring(proxy.telemetry, time.time())
    exposition = Exposition(proxy.telemetry, proxy.own, settings.cluster_domain, settings.metrics)
    views = Views(
        proxy.unready,
        exposition.scrape,
        lambda window: ring.samples(proxy.own(), time.time(), window),
        proxy.state.describe,
    )
    admin = Admin(views, settings.pod_ip)
    await admin.start(settings.bind, settings.admin_port)
    tasks = Tasks(lambda _name, _failure: end(1))
    try:
        tasks.start("samples", _tick(ring))
        starting = tasks.start("start", _start(proxy, tasks))
        exit_code = await stop
        proxy.draining = True
        _log.info("stopping with exit code %d", exit_code)
        if proxy.listening:
            await starting.result().drain(settings.drain_seconds)
    finally:
        await tasks.cancel()
        await admin.stop()
    return exit_code


async def _start(proxy: Proxy, tasks: Tasks) -> serve.Running:
    """Everything that must have happened before the proxy is ready."""
    began = time.monotonic()
    await proxy.identity.obtain()
    tasks.start("certificate renewal", proxy.identity.keep_current())
    tasks.start("config stream", proxy.discovery.run())
    tasks.start("sweep", _sweep(proxy.state))
    await proxy.state.wait_configured()
    running = await serve.start(
        proxy.settings, proxy.state, proxy.identity, proxy.telemetry, intercepted=proxy.intercepted
    )
    proxy.listening = True
    process.freeze_heap()
    _log.info("ready after %.0f ms, revision %d", (time.monotonic() - began) * 1e3, proxy.state.revision)
    return running


async def _tick(ring: Ring) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        ring.tick(time.time())


async def _sweep(state: State) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        gone = state.sweep()
        if gone:
            _log.debug("gave up %d idle destinations", len(gone))


def main(environ: Mapping[str, str]) -> int:
    """Exit code 0 after a drain, 1 if a part failed, 2 if the environment is not understood."""
    try:
        settings = settings_from(environ)
    except SettingsError as error:
        sys.stderr.write(f"dataplane: {error}\n")
        return 2
    process.log_to_stderr(settings.log_level)
    process.keep_read_buffers()
    process.raise_file_limit()
    try:
        intercepted = _intercept_udp(settings)
    except OSError as error:
        _log.error("%s", error)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(compose(settings, intercepted)))


def _intercept_udp(settings: Settings) -> serve.Intercepted | None:
    """Open what takes a capability while there is one and only one thread; then have none. Raises OSError."""
    if not settings.udp:
        return None
    intercepted = serve.open_intercepted(settings.bind, settings.outbound_port, settings.inbound_port)
    process.drop_capabilities()
    return intercepted
