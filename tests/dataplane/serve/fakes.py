"""What a proxy's two sides stand on where a test needs no sockets and no time."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


class Wire:
    """A transport that only takes notes."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.reading = True
        self.closing = False
        self.gone = False

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, _protocol: Any) -> None: ...

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default


class Clock:
    """A loop in which no time passes."""

    def time(self) -> float:
        return 0.0

    def call_later(self, *_: Any) -> None:
        return None


class AtOnce:
    """Runs a task that has nothing to wait for."""

    def start(self, _name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("the task waits")
