"""Runs the commands of a suite as KUTTL does: in the test's directory, with NAMESPACE, KUBECONFIG, PATH."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.kuttl.expand import dollars
from conformance.kuttl.model import Command

Log = Callable[[str], None]
MAX_LINES: Final = 500
"""Lines of one command's output that are logged."""
MAX_LINE: Final = 2000


class CommandError(Exception):
    """A command did not succeed. `late` is whether its time was up."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where commands run."""

    directory: Path
    namespace: str
    kubeconfig: Path

    def environment(self) -> dict[str, str]:
        """This process's environment with what the format adds."""
        path = f"{Path.cwd() / 'bin'}:{os.environ.get('PATH', '')}"
        added = {"NAMESPACE": self.namespace, "KUBECONFIG": str(self.kubeconfig), "PATH": path}
        return {**os.environ, **added}


def arguments(command: Command, namespace: str, environment: Mapping[str, str]) -> list[str]:
    """The words of a command; raises CommandError when it cannot be split."""
    if command.script:
        return ["sh", "-c", command.script]
    try:
        words = shlex.split(dollars(command.command, environment))
    except ValueError as error:
        raise CommandError(f"command {command.command!r}: {error}") from None
    if not words:
        raise CommandError(f"command {command.command!r} is empty once its variables are filled in")
    if command.namespaced and not any(
        word in ("-n", "--namespace") or word.startswith(("--namespace=", "-n=")) for word in words
    ):
        words += ["--namespace", namespace]
    return words


async def start(command: Command, where: Surroundings, log: Log) -> asyncio.subprocess.Process:
    """Start a command in a process group of its own; raises CommandError."""
    environment = where.environment()
    words = arguments(command, where.namespace, environment)
    log(f"running {shlex.join(words)}")
    output = asyncio.subprocess.DEVNULL if command.skipLogOutput else asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *words,
            cwd=where.directory,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"command {words[0]}: {error.strerror}") from None


async def run(command: Command, where: Surroundings, seconds: float | None, log: Log) -> None:
    """Run a command to its end. `seconds` is its time when it sets none itself.

    Raises CommandError when it fails and failures are not ignored, and when its time is up.
    """
    limit = None if command.timeout < 0 else command.timeout or seconds
    process = await start(command, where, log)
    name = (command.command or command.script).strip().partition("\n")[0]
    try:
        async with asyncio.timeout(limit):
            await _listen(process, log)
            code = await process.wait()
    except TimeoutError:
        await kill(process)
        raise CommandError(f"command {name!r} took longer than {limit:g} s", late=True) from None
    except asyncio.CancelledError:
        await kill(process)
        raise
    if code and not command.ignoreFailure:
        raise CommandError(f"command {name!r} ended with exit code {code}")


async def kill(process: asyncio.subprocess.Process) -> None:
    """End a process with everything it started that is still in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _listen(process: asyncio.subprocess.Process, log: Log) -> None:
    """Log the output line by line, cut to a size that can be read."""
    if process.stdout is None:
        return
    lines, rest = 0, b""
    while piece := await process.stdout.read(65536):
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[-MAX_LINE:]
        for line in whole:
            lines += 1
            if lines <= MAX_LINES:
                log("| " + line[:MAX_LINE].decode(errors="replace"))
    if rest and lines < MAX_LINES:
        log("| " + rest.decode(errors="replace"))
    if lines > MAX_LINES:
        log(f"| … {lines - MAX_LINES} more lines")
