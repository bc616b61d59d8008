"""From a click command into asyncio and back: interruption and expected failures become exit codes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import click

from cli.errors import Failed
from cli.kube import KubeconfigError, KubeError
from cli.main import INTERRUPTED, TERMINATED

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end. Ctrl-C and SIGTERM cancel it, so that its clean-up runs, then exit.

    Expected failures of the cluster and its API become `Failed`; anything else is a bug and shows
    as one.
    """
    try:
        return asyncio.run(_cancelled_by_sigterm(work))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except asyncio.CancelledError:
        raise click.exceptions.Exit(TERMINATED) from None
    except BaseExceptionGroup as group:
        expected = _first_expected(group)
        if expected is None:
            raise
        raise _as_failed(expected) from None
    except _EXPECTED as error:
        raise _as_failed(error) from None


_EXPECTED: Final = (Failed, KubeError, KubeconfigError, TimeoutError)


def _as_failed(error: BaseException) -> Failed:
    return error if isinstance(error, Failed) else Failed(str(error))


def _first_expected(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The first expected failure of a group that holds nothing else."""
    expected, other = group.split(_EXPECTED)
    if expected is None or other is not None:
        return None
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _cancelled_by_sigterm(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
