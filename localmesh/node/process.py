"""One local process that stands for a container: started by the launcher, waited for, signalled as a group.

It knows process ids, pipes and exit codes, and nothing of pods or of the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
CLUSTER_MARK: Final = "LOCALMESH_CLUSTER"
"""Environment variable every process of a cluster carries: how leftovers are found after a crash."""
CONTAINER_MARK: Final = "LOCALMESH_CONTAINER"
DRAIN_S: Final = 0.5
"""How long output is still read after the process is gone, if something keeps the pipe open."""


@dataclass(frozen=True, slots=True)
class Mount:
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Order:
    """Everything the launcher needs (see launcher.read_order)."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/"
    isolate: bool = False
    netns: str = ""
    base: str = ""
    """Empty directory of this container, where its private root is put together."""
    hide: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    join: int = 0
    """Pid of a running container to enter (exec)."""
    tty: bool = False
    """Stdin, stdout and stderr are one terminal, which becomes the controlling one."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `code` is what a shell would say: 128 + signal when it was killed."""

    code: int
    signal: int = 0


class _Output(asyncio.Protocol):
    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self.closed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._sink(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if not self.closed.done():
            self.closed.set_result(None)


class Process:
    """A started process. `wait` may be awaited by several; signals go to the whole process group.

    `keep_children`: what it leaves behind in its group lives on (until the container ends, if it is in one).
    """

    def __init__(self, popen: subprocess.Popen[bytes], entered: int, *, keep_children: bool = False) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        """Where its input is written to, if it was started with any."""
        self.terminal: int | None = None
        """Our end of its terminal, if it has one; closed by `wait`."""
        self._keep_children = keep_children
        self._entered = asyncio.Event()
        self._entrance = entered
        asyncio.get_running_loop().add_reader(entered, self._has_entered)
        self._popen = popen
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._outputs: list[tuple[asyncio.ReadTransport, _Output]] = []
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._exited)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def ended(self) -> bool:
        return self._ended.done()

    async def entered(self) -> None:
        """Wait until the launcher has become the workload (or has failed): its namespaces are final then."""
        await self._entered.wait()

    def _has_entered(self) -> None:
        """The kernel has closed the launcher's end of the pipe: it became another program, or ended."""
        asyncio.get_running_loop().remove_reader(self._entrance)
        os.close(self._entrance)
        self._entered.set()

    async def attach(self, pipe: int, sink: Callable[[bytes], None]) -> None:
        transport, output = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _Output(sink), os.fdopen(pipe, "rb", buffering=0)
        )
        self._outputs.append((transport, output))

    def hold_output(self, held: bool) -> None:
        """Leave output in the pipes, so that the process waits when they are full; or take it again.

        Once the process has ended, the rest is taken in any case.
        """
        if held and self.ended:
            return
        for transport, output in self._outputs:
            if not output.closed.done():
                if held:
                    transport.pause_reading()
                else:
                    transport.resume_reading()

    def _exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._popen.wait()
        if not self._keep_children:
            self._signal_group(signal.SIGKILL)  # children it left behind in its group
        ended = Exit(128 - code, -code) if code < 0 else Exit(code)
        if not self._ended.done():
            self._ended.set_result(ended)

    async def wait(self) -> Exit:
        """Wait for the end and for the last output."""
        ended = await asyncio.shield(self._ended)
        self.hold_output(False)
        pending = [output.closed for _, output in self._outputs if not output.closed.done()]
        if pending:
            await asyncio.wait(pending, timeout=DRAIN_S)
        for transport, _ in self._outputs:
            transport.close()
        self.release()
        return ended

    def close_input(self) -> None:
        """No more input: the process reads its end. A terminal has no such end and stays open."""
        if self.stdin is not None and self.terminal is None:
            self.stdin.close()
            self.stdin = None

    def release(self) -> None:
        """Close our ends of its input and its terminal."""
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None
        self.close_input()

    def terminate(self) -> None:
        if not self.ended:
            self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        if not self.ended:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    async def stop(self, grace_s: float) -> Exit:
        """SIGTERM, then SIGKILL when the grace period is over."""
        self.terminate()
        try:
            return await asyncio.wait_for(self.wait(), max(grace_s, 0.0))
        except TimeoutError:
            self.kill()
            return await self.wait()


@dataclass(frozen=True, slots=True)
class Ends:
    """File descriptors of a process: what it is given, and what we keep. -1 where there is none."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    to_stdin: int = -1
    from_stdout: int = -1
    from_stderr: int = -1
    terminal: int = -1

    def close_given(self) -> None:
        _close({self.stdin, self.stdout, self.stderr})

    def close_kept(self) -> None:
        _close({self.to_stdin, self.from_stdout, self.from_stderr, self.terminal})


def _close(descriptors: set[int]) -> None:
    for descriptor in descriptors - {-1}:
        os.close(descriptor)


def open_ends(order: Order, *, stdin: bool, output: bool = True) -> Ends:
    """Pipes for the process, or a terminal if its order has one."""
    if order.tty:
        master, slave = os.openpty()
        if order.uid is not None:
            os.fchown(slave, order.uid, -1)  # so that it can be opened again by its name
        return Ends(slave, slave, slave, to_stdin=os.dup(master), from_stdout=os.dup(master), terminal=master)
    reading, writing = os.pipe() if stdin else (-1, -1)
    from_stdout, stdout = os.pipe() if output else (-1, -1)
    from_stderr, stderr = os.pipe() if output else (-1, -1)
    return Ends(reading, stdout, stderr, writing, from_stdout, from_stderr)


def spawn(order: Order, mark: dict[str, str], ends: Ends, *, keep_children: bool = False) -> Process:
    """Start `order` on the given ends, which are closed here; on failure the kept ones as well.

    `mark` is in the environment from the first instruction on, so that even a launcher that never got
    further is found again. Raises OSError when the machine cannot start a process at all.
    """
    spec = os.memfd_create("order")
    entered, entering = os.pipe()
    wanted = asdict(order) | {"env": order.env | mark, "entered": entering, "parent": os.getpid()}
    try:
        os.write(spec, json.dumps(wanted).encode())
        os.lseek(spec, 0, os.SEEK_SET)
        # Popen uses vfork here, so that it costs the same however large this process has grown.
        popen = subprocess.Popen(  # noqa: S603 (our argument list; vfork takes a millisecond)
            [sys.executable, "-I", "-S", str(LAUNCHER), str(spec)],
            stdin=subprocess.DEVNULL if ends.stdin < 0 else ends.stdin,
            stdout=subprocess.DEVNULL if ends.stdout < 0 else ends.stdout,
            stderr=subprocess.DEVNULL if ends.stderr < 0 else ends.stderr,
            env={"PATH": os.environ.get("PATH", os.defpath)} | mark,
            pass_fds=(spec, entering),
            start_new_session=True,
        )
    except BaseException:
        ends.close_kept()
        os.close(entered)
        raise
    finally:
        os.close(spec)
        os.close(entering)
        ends.close_given()
    process = Process(popen, entered, keep_children=keep_children)
    process.terminal = None if ends.terminal < 0 else ends.terminal
    return process


async def writer_to(descriptor: int) -> asyncio.StreamWriter:
    """A stream writer for our end of a pipe or terminal."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()),
        os.fdopen(descriptor, "wb", buffering=0),
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def start(
    order: Order, mark: dict[str, str], sink: Callable[[str, bytes], None] | None, *, stdin: bool = False
) -> Process:
    """Start `order`; output goes to `sink(stream, bytes)` (None: thrown away). Raises OSError as `spawn`.

    With `stdin`, or a terminal, input can be written to `Process.stdin`.
    """
    ends = open_ends(order, stdin=stdin, output=sink is not None)
    process = spawn(order, mark, ends)
    try:
        if ends.to_stdin >= 0:
            process.stdin = await writer_to(ends.to_stdin)
        for stream, reading in (("stdout", ends.from_stdout), ("stderr", ends.from_stderr)):
            if sink is not None and reading >= 0:
                await process.attach(reading, _bound(sink, stream))
    except BaseException:
        process.kill()  # cancelled: nobody would know of it
        raise
    return process


def _bound(sink: Callable[[str, bytes], None], stream: str) -> Callable[[bytes], None]:
    return lambda data: sink(stream, data)


async def run(order: Order, mark: dict[str, str], timeout_s: float) -> tuple[int, bytes]:
    """Run to the end and return exit code and output (first 64 KiB); raises TimeoutError after killing it."""
    output = bytearray()

    def keep(_stream: str, data: bytes) -> None:
        if len(output) < 65536:
            output.extend(data)

    process = await start(order, mark, keep)
    try:
        ended = await asyncio.wait_for(process.wait(), timeout_s)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return ended.code, bytes(output)


def find_marked(mark: dict[str, str]) -> list[int]:
    """Pids of all processes (of this user, or of all for root) whose environment carries `mark`."""
    wanted = {f"{name}={value}".encode() for name, value in mark.items()}
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or somebody else's
        if wanted.issubset(environment):
            found.append(int(entry.name))
    return found


def kill_marked(mark: dict[str, str]) -> int:
    """Kill them all; returns how many there were."""
    pids = find_marked(mark)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)
