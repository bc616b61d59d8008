"""What the two ends of a stream promise each other: the client's `Console`, the node that runs things."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from localmesh.streams.outcome import Outcome

Output = Literal["stdout", "stderr"]


class ClientGoneError(Exception):
    """The client closed its connection, broke the protocol, or was silent for too long."""


@dataclass(frozen=True, slots=True)
class Place:
    """A container of a pod."""

    namespace: str
    pod: str
    container: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams a client asked for. With a terminal there is no stderr of its own."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class Console(Protocol):
    """The client's side of a command. Every method raises ClientGoneError or ConnectionError when it left."""

    async def read(self) -> bytes:
        """Some of stdin; b"" when there will be no more."""

    async def write(self, output: Output, data: bytes) -> None:
        """Waits while the client is slow."""

    async def size(self) -> tuple[int, int]:
        """The next size of the terminal, in rows and columns."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which part of a log to read. Source: core/v1 PodLogOptions."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    """Lines from the end, counted before `since` is applied to them, as the kubelet does."""
    since: datetime | None = None
    limit_bytes: int | None = None
    output: Literal["All", "Stdout", "Stderr"] = "All"


class Node(Protocol):
    """Runs containers."""

    def require_running(self, place: Place) -> None:
        """Raises LookupError with a sentence for the user when the container does not run here."""

    async def execute_in(
        self, place: Place, argv: Sequence[str], wanted: Wanted, console: Console
    ) -> Outcome:
        """Run a command in the container. Cancelled when the client leaves: the command is killed then."""

    async def attach_to(self, place: Place, wanted: Wanted, console: Console) -> Outcome:
        """Join the container's own streams until it ends or this is cancelled."""

    async def dial(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a port inside the pod. Raises OSError, LookupError."""
