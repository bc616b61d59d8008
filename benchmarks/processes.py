"""Processes on chosen cores, and what the kernel says they used. Knows nothing of what they run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROXY_CORE: Final = 0
LOAD_CORE: Final = 1
_START_SECONDS: Final = 20.0
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

Address = tuple[str, int]


class NotStarted(RuntimeError):  # noqa: N818 - says what happened
    """A process ended or did not listen in time; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started process; `log` has what it printed."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pids(self) -> list[int]:
        """The process and its children, as they are now."""
        return [self.process.pid, *_children(self.process.pid)]

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children so far (proc(5), stat, fields 14, 15)."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def resident(self) -> int:
        """Resident bytes of the process and its children."""
        return sum(resident(pid) for pid in self.pids)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-600:]

    def reset_peak(self) -> None:
        """Forget the highest resident size so far (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Highest resident bytes since `reset_peak`."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of one process; 0 if it has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def resident(pid: int) -> int:
    """Resident bytes of one process; 0 if it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        return 0


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [int(child) for child in found]


@contextmanager
def started(
    name: str,
    command: Sequence[str],
    folder: Path,
    *,
    cores: Sequence[int] = (PROXY_CORE,),
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a command on `cores` for the time of the context; it gets SIGTERM at the end, then SIGKILL."""
    log = folder / f"{name}.log"
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
        )
    try:
        yield Running(process, log)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def listening(running: Running, *addresses: Address) -> None:
    """Return once every address takes connections. Raises NotStarted."""
    deadline = time.monotonic() + _START_SECONDS
    for address in addresses:
        while True:
            try:
                _, writer = await asyncio.open_connection(*address)
            except OSError:
                if running.process.poll() is not None or time.monotonic() > deadline:
                    raise NotStarted(f"{running.log.stem} does not listen: {running.tail()}") from None
                await asyncio.sleep(0.02)
            else:
                writer.transport.abort()
                break


async def output_of(command: Sequence[str], seconds: float, core: int | None = LOAD_CORE) -> str:
    """Standard output of a command on one core (None: on any). Raises NotStarted on failure or delay."""
    process = await asyncio.create_subprocess_exec(
        "taskset",
        "-c",
        f"0-{(os.cpu_count() or 1) - 1}" if core is None else str(core),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise NotStarted(f"{command[0]} took longer than {seconds:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        text = complaint.decode(errors="replace")[-600:]
        raise NotStarted(f"{' '.join(command[:3])} ended with {process.returncode}: {text}")
    return output.decode(errors="replace")


def free_ports(count: int) -> list[int]:
    """Ports at which nobody listens on any address right now."""
    sockets = [socket.create_server(("0.0.0.0", 0)) for _ in range(count)]  # noqa: S104 - closed at once
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


def python(*arguments: str) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, *arguments]
