"""A worker process: listeners, fed over its link with the first process. Ends when that one does."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dataplane import VERSION, gauges, process, serve
from dataplane.accesslog import pump
from dataplane.control.exporting import spans
from dataplane.control.identity import Identity
from dataplane.control.tapping import Tapping
from dataplane.counts import take
from dataplane.settings import Settings
from dataplane.state import State
from dataplane.tap import Tap
from dataplane.tasks import Tasks
from dataplane.telemetry import Own, Telemetry
from dataplane.workers.link import Link, Message

SWEEP_SECONDS: Final = 60.0

_log = logging.getLogger("dataplane.worker")


class Worker:
    """The parts of one worker. `descriptors`: the link, then the sockets of UDP interception, if any."""

    def __init__(self, settings: Settings, descriptors: Sequence[int]) -> None:
        chance = random.SystemRandom()
        link, *intercepted = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        self._settings = settings
        self._link = Link(link)
        self._intercepted = serve.Intercepted(*intercepted) if intercepted else None
        self._state = State(phase=chance.getrandbits(31))
        self._telemetry = Telemetry(counting=settings.counting)
        self._identity = Identity(settings, time.time, chance.random)
        self._certified = asyncio.Event()
        gauges.register_serving(self._telemetry, self._state)
        self._spans = spans(settings, self._telemetry, self._own, VERSION, chance)
        log = gauges.access_log(settings.access_log, self._telemetry, chance.random)
        self._tap = Tap(self._telemetry, time.time, log)
        self._tapping = Tapping(self._tap, self._say)

    async def run(self) -> int:
        """Serve until SIGTERM, or until the first process is gone; returns the exit code."""
        loop = asyncio.get_running_loop()
        stop: asyncio.Future[int] = loop.create_future()

        def end(exit_code: int) -> None:
            if not stop.done():
                stop.set_result(exit_code)

        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, end, 0)
        await self._link.open()
        self._state.on_subscriptions(self._subscriptions_changed)
        tasks = Tasks(lambda _name, _failure: end(1))
        receiving = tasks.start("link", self._link.receive(self._take))
        receiving.add_done_callback(lambda _done: end(0))
        starting = tasks.start("start", self._start(tasks))
        try:
            exit_code = await stop
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                await starting.result().drain(self._settings.drain_seconds)
                if self._spans is not None:
                    await self._spans.exporter.close()
        finally:
            await tasks.cancel()
            self._link.close()
        return exit_code

    async def _start(self, tasks: Tasks) -> serve.Running:
        await self._certified.wait()
        await self._state.wait_configured()
        if self._tap.log is not None:
            tasks.start("access log", pump(self._tap.log))
        if self._spans is not None:
            tasks.start("spans", self._spans.exporter.run())
        whole = serve.Limits()
        running = await serve.start(
            self._settings,
            self._state,
            self._identity,
            self._telemetry,
            # What the container may use is for all of them.
            replace(whole, memory_share=whole.memory_share / self._settings.workers),
            intercepted=self._intercepted,
            tap=self._tap,
            tracer=None if self._spans is None else self._spans.tracer,
        )
        tasks.start("sweep", self._sweep())
        process.freeze_heap()
        self._link.send("serving")
        return running

    def _own(self) -> Own:
        """Whom it speaks for, as far as it is known by now."""
        access = self._state.inbound
        identity = access.inbound.identity if access is not None else ""
        return Own(self._settings.pod_name, self._settings.workload, identity)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._state.sweep()

    def _take(self, message: Message) -> None:
        match message["type"]:
            case "update":
                self._state.apply(message)  # the first process has applied it: it cannot fail
            case "identity":
                self._identity.entrust(message)
                self._certified.set()
            case "count":
                self._count()
            case "tap":
                self._tapping.start(message)
            case "untap":
                self._tapping.stop(message)

    def _count(self) -> None:
        self._link.send("counts", counts=take(self._telemetry))

    def _say(self, **message: object) -> None:
        """Tell the first process what it is to tell the controller."""
        kind = message.pop("type")
        self._link.send(str(kind), **message)

    def _subscriptions_changed(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        if added:
            self._link.send("subscribe", keys=added)
        if removed:
            self._link.send("unsubscribe", keys=removed)
