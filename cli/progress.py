"""Says what a long command is doing: a spinner on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text


class Progress:
    """One line per stage; a finished stage shows how long it took."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._stage: str | None = None
        self._began = 0.0

    def say(self, stage: str) -> None:
        """Begin a stage; the one before it is finished."""
        if stage == self._stage:
            return
        self.done()
        self._stage = stage
        self._began = time.monotonic()
        self._status.update(stage)

    def done(self) -> None:
        """The present stage, if any, is finished."""
        if self._stage is not None:
            took = time.monotonic() - self._began
            self._console.print(
                Text.assemble(("✔ ", "green"), self._stage, (f"  {took:.1f} s", "dim")), soft_wrap=True
            )
        self._stage = None


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """Progress of one command. A stage that fails is left to the error message."""
    with console.status("starting") as status:
        shown = Progress(console, status)
        yield shown
        shown.done()
