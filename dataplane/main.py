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
from dataplane.settings import Settings, SettingsError, settings_from
from dataplane.state import State
from dataplane.tasks import Tasks
from dataplane.telemetry import CONTENT_TYPE, Telemetry

SWEEP_SECONDS: Final = 60.0

_log = logging.getLogger("dataplane.main")


@dataclass(slots=True)
class Lifecycle:
    """How far this proxy is; what /ready reports."""

    listening: bool = False
    draining: bool = False
    exit_code: int = 0


def unready(lifecycle: Lifecycle, state: State, identity: Identity) -> str:
    """Why the proxy must not get traffic, or "" if it may."""
    if lifecycle.draining:
        return "draining"
    if not identity.renewals:
        return "no certificate yet"
    if not identity.ready:
        return "the certificate has expired"
    if state.inbound is None:
        return "no config from the controller yet"
    return "" if lifecycle.listening else "the listeners are not open yet"


async def run(settings: Settings) -> int:
    """Run the sidecar until SIGTERM or SIGINT; returns the exit code."""
    chance = random.SystemRandom()
    stop = asyncio.Event()
    lifecycle = Lifecycle()

    def fail(_name: str, _failure: BaseException) -> None:
        lifecycle.exit_code = 1
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    state = State(phase=chance.getrandbits(31))
    telemetry = Telemetry()
    identity = Identity(settings, time.time, chance.random)
    discovery = Discovery(settings, state, identity, VERSION, chance.random)
    gauges.register(telemetry, state, identity, discovery)
    views = Views(lambda: unready(lifecycle, state, identity), telemetry.render, CONTENT_TYPE, state.describe)
    admin = Admin(views, settings.pod_ip)
    await admin.start(settings.bind, settings.admin_port)
    tasks = Tasks(fail)
    try:
        starting = tasks.start("start", _start(settings, state, identity, telemetry, discovery, tasks))
        starting.add_done_callback(lambda task: setattr(lifecycle, "listening", not task.cancelled()))
        await stop.wait()
        lifecycle.draining = True
        _log.info("stopping")
        if starting.done() and not starting.cancelled() and starting.exception() is None:
            await starting.result().drain(settings.drain_seconds)
    finally:
        await tasks.cancel()
        await admin.stop()
    return lifecycle.exit_code


async def _start(
    settings: Settings,
    state: State,
    identity: Identity,
    telemetry: Telemetry,
    discovery: Discovery,
    tasks: Tasks,
) -> serve.Running:
    """Everything that must have happened before the proxy is ready."""
    began = time.monotonic()
    await identity.obtain()
    tasks.start("certificate renewal", identity.keep_current())
    tasks.start("config stream", discovery.run())
    tasks.start("sweep", _sweep(state))
    await state.wait_configured()
    running = await serve.start(settings, state, identity, telemetry)
    process.freeze_heap()
    _log.info("ready after %.0f ms with revision %d", (time.monotonic() - began) * 1e3, state.revision)
    return running


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
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(settings))
