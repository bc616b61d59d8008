"""Clients inside containers: exec, attach, and connections to ports of a pod. The node's side of `streams`.

An exec'd command is killed when its client leaves. When it ends by itself, what it left running belongs to
the container and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from localmesh.node.container import ContainerRunner
from localmesh.node.netns import in_namespace
from localmesh.node.network import Attachment
from localmesh.node.process import DRAIN_S, Ends, Process, kill_marked, open_ends, spawn, writer_to
from localmesh.streams.contract import Console, Output, Place, Wanted
from localmesh.streams.outcome import Outcome

EXEC_MARK: Final = "LOCALMESH_EXEC"
CHUNK: Final = 32 * 1024
CONNECT_S: Final = 5.0


Containers = Callable[[Place], ContainerRunner | None]
Pods = Callable[[str, str], Attachment | None]
"""(namespace, pod) → the network of a pod that runs on this node."""


class Sessions:
    """A `streams.contract.Node`."""

    def __init__(self, containers: Containers, pods: Pods) -> None:
        self._find = containers
        self._pods = pods

    def require_running(self, place: Place) -> None:
        self._container(place)

    def _container(self, place: Place) -> ContainerRunner:
        found = self._find(place)
        if found is None or found.process is None:
            raise LookupError(f'container not found ("{place.container}")')
        return found

    async def execute_in(
        self, place: Place, argv: Sequence[str], wanted: Wanted, console: Console
    ) -> Outcome:
        try:
            container = self._container(place)
            await container.entered()
            order = container.exec_order(argv, tty=wanted.tty)
            mark = {EXEC_MARK: uuid.uuid4().hex}
            ends = open_ends(order, stdin=wanted.stdin)
            process = spawn(order, container.mark | mark, ends, keep_children=True)
        except (LookupError, OSError) as error:
            return Outcome(error=f"error executing command in container: {error}")
        try:
            return await _follow(process, ends, wanted, console)
        finally:
            if not process.ended:
                process.kill()
                await asyncio.to_thread(kill_marked, mark)  # and what left its process group

    async def attach_to(self, place: Place, wanted: Wanted, console: Console) -> Outcome:
        try:
            container = self._container(place)
            subscription = container.subscribe()
        except (LookupError, OSError) as error:
            return Outcome(error=str(error))
        process = container.process
        assert process is not None  # subscribed to it just now
        once = bool(container.spec.get("stdinOnce"))  # one client's input is all the container gets
        try:
            async with asyncio.TaskGroup() as group:
                inputs = []
                if wanted.stdin and process.stdin is not None:
                    inputs.append(group.create_task(_feed(console, process, close=once)))
                if process.terminal is not None:
                    inputs.append(group.create_task(_resize(console, process)))
                while (piece := await subscription.read()) is not None:
                    stream, data = piece
                    if getattr(wanted, stream):
                        await console.write(stream, data)
                for task in inputs:
                    task.cancel()
        finally:
            subscription.close()
            if wanted.stdin and once:
                process.close_input()
        return Outcome(error="the client took no output for too long" if subscription.stalled else "")

    async def dial(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = self._pods(namespace, pod)
        if place is None or not place.address:
            raise LookupError(f'pod "{pod}" in namespace "{namespace}" is not running on this node')
        if not place.netns:
            return await _connect(place.address, port)
        made = await asyncio.to_thread(in_namespace, Path(place.netns), lambda: _inside(place.address, port))
        return await asyncio.open_connection(sock=made, limit=CHUNK)


# --- commands --------------------------------------------------------------------------------------------


async def _follow(process: Process, ends: Ends, wanted: Wanted, console: Console) -> Outcome:
    """Connect the process and the client until the process has ended and its output is delivered."""
    outputs = [Drain(output, descriptor) for output, descriptor in _outputs(ends)]
    try:
        if ends.to_stdin >= 0:
            process.stdin = await writer_to(ends.to_stdin)
        async with asyncio.TaskGroup() as group:
            inputs = []
            if wanted.stdin:
                inputs.append(group.create_task(_feed(console, process, close=True)))
            if process.terminal is not None:
                inputs.append(group.create_task(_resize(console, process)))
            pumps = [group.create_task(drain.pump(console)) for drain in outputs]
            ended = await process.wait()
            for drain in outputs:
                drain.hurry()
            await asyncio.gather(*pumps)
            for task in inputs:
                task.cancel()
    finally:
        process.kill()
        for drain in outputs:
            drain.close()
        process.release()
    return Outcome(ended.code)


def _outputs(ends: Ends) -> list[tuple[Output, int]]:
    found: list[tuple[Output, int]] = [("stdout", ends.from_stdout), ("stderr", ends.from_stderr)]
    return [(output, descriptor) for output, descriptor in found if descriptor >= 0]


class _Ending(asyncio.StreamReaderProtocol):
    """A terminal says with EIO that its last user is gone: the end, and no reason to lose what was read."""

    def connection_lost(self, exc: Exception | None) -> None:
        gone = isinstance(exc, OSError) and exc.errno == errno.EIO
        super().connection_lost(None if gone else exc)


class Drain:
    """One output of a process, read as fast as the client takes it."""

    def __init__(self, output: Output, descriptor: int) -> None:
        self._output = output
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._transport: asyncio.ReadTransport | None = None
        self._limit: asyncio.Timeout | None = None
        self._hurried = False

    async def pump(self, console: Console) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        self._transport, _ = await loop.connect_read_pipe(lambda: _Ending(reader), self._file)
        while data := await self._read(reader):
            await console.write(self._output, data)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """b"" at the end, which may be silence: something that lives on can keep the pipe open."""
        try:
            async with asyncio.timeout(DRAIN_S if self._hurried else None) as self._limit:
                return await reader.read(CHUNK)
        except TimeoutError:
            return b""
        finally:
            self._limit = None

    def hurry(self) -> None:
        """The process has ended: what comes now is what it left in the pipe."""
        self._hurried = True
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + DRAIN_S)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        else:
            self._file.close()


async def _feed(console: Console, process: Process, *, close: bool) -> None:
    """The client's input to the process; what comes after it stopped reading is thrown away."""
    writer = process.stdin
    while data := await console.read():
        if writer is not None:
            try:
                writer.write(data)
                await writer.drain()
            except OSError:  # it closed its input or has ended
                writer = None
    if close:
        process.close_input()


async def _resize(console: Console, process: Process) -> None:
    while True:
        rows, columns = await console.size()
        if process.terminal is not None:
            with contextlib.suppress(OSError):  # the last one to use it is gone
                fcntl.ioctl(process.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


# --- ports -----------------------------------------------------------------------------------------------


async def _connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(CONNECT_S):
        return await asyncio.open_connection(address, port, limit=CHUNK)


def _inside(address: str, port: int) -> socket.socket:
    """A connection made in the pod's namespace: to its localhost, as a runtime does, or to its address.

    Real clusters try localhost only. Programs that bind to $(POD_IP), which mode loopback asks for, are to
    be reached in both modes.
    """
    failure: OSError | None = None
    for host in ("127.0.0.1", "::1", address):
        try:
            made = socket.create_connection((host, port), timeout=CONNECT_S)
        except OSError as error:
            failure = failure or error
        else:
            made.setblocking(False)
            return made
    assert failure is not None
    raise OSError(failure.errno, f"dial tcp4 127.0.0.1:{port}: connect: {failure.strerror or failure}")
