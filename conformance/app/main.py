"""Composition root of the test application: settings → listeners → wait for a signal → drain."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from typing import Final

from conformance.app.control import Control
from conformance.app.datagram import DatagramServer
from conformance.app.echo import Echo, Seen
from conformance.app.line import LineServer, Reply
from conformance.app.server import Handler, HttpServer
from conformance.app.settings import Settings, SettingsError

DRAIN: Final = 5.0
"""Seconds that requests in flight get after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Running:
    """The listeners of one application; None for those that are off."""

    http: HttpServer | None
    tcp: LineServer | None
    control: HttpServer | None
    udp: DatagramServer | None = None

    async def stop(self, deadline: float = DRAIN) -> None:
        """Stop listening and drain."""
        if self.tcp is not None:
            self.tcp.stop()
        if self.udp is not None:
            self.udp.stop()
        servers = [server for server in (self.http, self.control) if server is not None]
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(server.stop(deadline))


async def start(
    settings: Settings, handler: Handler | None = None, reply: Reply | None = None, greeting: str = ""
) -> Running:
    """Open the listeners the settings ask for. Without `handler` and `reply` it is the echo application.

    Raises OSError when an address cannot be bound.
    """
    seen = Seen()
    http = tcp = control = udp = None
    if settings.http_port is not None:
        http = HttpServer(handler or Echo(settings.name, settings.pod, seen))
        await http.start(settings.bind, settings.http_port)
    if settings.tcp_port is not None:
        first = greeting or (f"{settings.name} ready" if settings.greet else "")
        tcp = LineServer(reply or (lambda line: f"{settings.name} {line}"), first, seen)
        await tcp.start(settings.bind, settings.tcp_port)
    if settings.udp_port is not None:
        udp = DatagramServer(settings.name, seen)
        await udp.start(settings.bind, settings.udp_port)
    if settings.control_port is not None:
        control = HttpServer(Control(settings.name, settings.proxy, seen))
        await control.start(settings.bind, settings.control_port)
    return Running(http, tcp, control, udp)


async def run(settings: Settings, handler: Handler | None = None, reply: Reply | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    running = await start(settings, handler, reply)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    say(
        f"{settings.name}: listening on {settings.bind}"
        f" http={settings.http_port} tcp={settings.tcp_port} udp={settings.udp_port}"
        f" control={settings.control_port}"
    )
    await stop.wait()
    say(f"{settings.name}: draining")
    await running.stop()


def say(text: str) -> None:
    """One line of the application's log."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """`python -m conformance.app`; exit code 2 for settings that cannot be used, 1 for a taken port."""
    try:
        asyncio.run(run(Settings.from_environment(os.environ)))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 1
    return 0
