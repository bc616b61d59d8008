"""Container logs: one file per run of a container, a time stamp before each line, bounded in size.

Line format on disk (that of the container runtime interface): `<RFC 3339 time> <stdout|stderr> <F|P> <text>`,
P marking a line that was cut because it was too long. Knows nothing of pods.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

MAX_LINE: Final = 16 * 1024
"""Bytes of one line before it is cut (the runtime interface cuts at 16 KiB as well)."""
MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes of one log file before it is rotated to `.1`; one rotated file is kept."""
FOLLOW_POLL_S: Final = 0.1


def timestamp(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


class LogWriter:
    """Appends the output of one run of a container."""

    def __init__(self, path: Path, max_bytes: int = MAX_FILE) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._partial: dict[str, bytes] = {}

    def feed(self, stream: str, data: bytes) -> None:
        """Take raw output; complete lines are written at once, the rest waits for its end."""
        stamp = timestamp().encode()
        pending = self._partial.pop(stream, b"") + data
        lines = pending.split(b"\n")
        rest = lines.pop()
        out = bytearray()
        for line in lines:
            out += _formatted(stamp, stream, line, final=True)
        while len(rest) > MAX_LINE:
            out += b"%s %s P %s\n" % (stamp, stream.encode(), rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        if rest:
            self._partial[stream] = rest
        self._write(bytes(out))

    def close(self) -> None:
        stamp = timestamp().encode()
        for stream, rest in self._partial.items():
            self._write(_formatted(stamp, stream, rest, final=True))
        self._partial.clear()
        self._file.close()

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        self._file.write(data)
        self._size += len(data)

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(rotated(self._path))
        self._file = self._path.open("ab", buffering=0)
        self._size = 0


def _formatted(stamp: bytes, stream: str, line: bytes, *, final: bool) -> bytes:
    pieces = [line[i : i + MAX_LINE] for i in range(0, len(line), MAX_LINE)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        b"%s %s %s %s\n" % (stamp, stream.encode(), b"F" if final and i == last else b"P", piece)
        for i, piece in enumerate(pieces)
    )


def rotated(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def tail_text(path: Path, max_bytes: int = 2048) -> str:
    """The last output of a run, without stamps: what a termination message falls back to."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 2 * max_bytes))
        lines = file.read().splitlines(keepends=True)[-80:]
    text = b"".join(shown for line in lines if (shown := _shown(line, timestamps=False)) is not None)
    return text[-max_bytes:].decode(errors="replace")


def _shown(line: bytes, *, timestamps: bool) -> bytes | None:
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) != 4:
        return None  # the cut first line of a tail
    end = b"" if parts[2] == b"P" else b"\n"
    return (parts[0] + b" " if timestamps else b"") + parts[3] + end


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _lines(path: Path) -> Iterator[bytes]:
    for part in (rotated(path), path):
        if part.exists():
            with part.open("rb") as file:
                yield from file


async def read_log(
    path: Path, ended: asyncio.Event, *, follow: bool, tail: int | None, timestamps: bool
) -> AsyncIterator[bytes]:
    """Yield the log as a client sees it; with `follow` until `ended` is set and all is read."""
    recent: Iterator[bytes] = _lines(path)
    if tail is not None:
        recent = iter(deque(recent, maxlen=max(tail, 0)))
    offset = _size(path)
    chunk = bytearray()
    for line in recent:
        shown = _shown(line, timestamps=timestamps)
        if shown is not None:
            chunk += shown
        if len(chunk) > 65536:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)
    if follow:
        async for piece in _follow(path, offset, ended, timestamps=timestamps):
            yield piece


async def _follow(path: Path, offset: int, ended: asyncio.Event, *, timestamps: bool) -> AsyncIterator[bytes]:
    pending = b""
    while True:
        over = ended.is_set()
        size = _size(path)
        if size < offset:  # rotated: the new file begins at 0
            offset, pending = 0, b""
        if size > offset:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(1 << 20)
            offset += len(data)
            *lines, pending = (pending + data).split(b"\n")
            shown = [_shown(line, timestamps=timestamps) for line in lines]
            text = b"".join(piece for piece in shown if piece is not None)
            if text:
                yield text
            continue
        if over:
            return
        try:
            await asyncio.wait_for(ended.wait(), FOLLOW_POLL_S)
        except TimeoutError:
            continue
